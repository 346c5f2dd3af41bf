"""The code that web and workers share: jobs, kinds of job, schemas, database, files and webhooks; and the client."""
