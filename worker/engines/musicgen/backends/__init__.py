"""The backends that compute the model: one package each."""
