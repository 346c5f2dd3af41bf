"""The sweeper: rescues jobs, sends messages to webhooks, deletes what is old."""
