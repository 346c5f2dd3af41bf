"""What a request may say: one pydantic schema per kind of job, for the form and the API alike."""
