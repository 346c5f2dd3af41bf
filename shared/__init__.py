"""What web and worker have in common: jobs, their schemas, their tables, their files."""
