"""The engines: parameters and files in, results and files out; nothing of queues or databases."""
