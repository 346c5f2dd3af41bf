"""The backend OpenVINO, with keys and values in blocks (paged attention)."""
