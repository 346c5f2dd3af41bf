"""Submits, retries and deletes jobs for clients; cancelling a job is a function of `shared.database.transitions`."""
