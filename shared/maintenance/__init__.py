"""The sweeper: recovers lost jobs, delivers webhook messages, deletes what is old."""
