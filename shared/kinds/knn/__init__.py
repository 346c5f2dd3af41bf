"""Evaluation of k nearest neighbours: parameters, results and data sets."""
