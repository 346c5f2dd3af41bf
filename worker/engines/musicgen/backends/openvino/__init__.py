"""The decoder on OpenVINO, its caches in blocks."""
