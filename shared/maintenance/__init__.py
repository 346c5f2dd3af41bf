"""The sweeper: rescues jobs, sends messages to webhooks, and deletes old rows and files."""
