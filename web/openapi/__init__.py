"""The API's OpenAPI 3.1 document, built from the routes, the schemas that validate, and the types of the responses."""
