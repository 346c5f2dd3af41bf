"""The kinds of job: parameters, results and data of each."""
