"""The sweeper: rescues jobs, inspects uploads, sends messages to webhooks, and deletes old rows and files."""
