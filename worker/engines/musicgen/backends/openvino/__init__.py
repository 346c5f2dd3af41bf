"""The backend OpenVINO, which stores keys and values in blocks (paged attention)."""
