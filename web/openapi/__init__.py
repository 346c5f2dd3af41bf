"""The API's description, in OpenAPI 3.1: made from the routes, the schemas that validate, and the answers' types."""
