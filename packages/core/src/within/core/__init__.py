"""Trace a network once; count, prune, export and measure it within a hardware budget."""
