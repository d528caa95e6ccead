"""Quantisation: grids, ranges, bits for every layer, training and storage in few bits."""
