"""The form and the result page of k nearest neighbours."""
