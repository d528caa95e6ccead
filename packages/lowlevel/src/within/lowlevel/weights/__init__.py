"""Weights of others: published files in, one strict check, clear errors."""

from within.lowlevel.weights.load import LoadReport, identify, load_weights

__all__ = ["LoadReport", "identify", "load_weights"]
