"""The worker: claims jobs, runs their engines on one device, and stores the results."""
