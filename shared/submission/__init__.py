"""What clients do with jobs besides reading them: submit, retry and delete; `shared.database.transitions` cancels."""
