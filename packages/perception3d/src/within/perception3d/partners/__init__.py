"""Tool boxes that this package works with where they are installed."""
