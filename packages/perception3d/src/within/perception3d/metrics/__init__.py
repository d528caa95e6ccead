"""Metrics of the data sets of 3-D perception."""
