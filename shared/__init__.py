"""What web and worker share: jobs, their kinds and schemas, the database, files, webhooks, and the client."""
