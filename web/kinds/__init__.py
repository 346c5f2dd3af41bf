"""What the web shows of each kind of job: its form and its part of a job's page."""
