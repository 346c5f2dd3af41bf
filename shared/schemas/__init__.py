"""The schemas of requests, for forms and the API, and the types of the API's responses."""
