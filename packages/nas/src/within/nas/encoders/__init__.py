"""Encoders: from architectures, as numbers of values of genes, to vectors."""
