"""Semantic segmentation: SwiftNet."""
