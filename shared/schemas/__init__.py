"""What requests may contain, for forms and the API alike, and what the API returns."""
