"""Files: uploads, artifacts and checkpoints."""
