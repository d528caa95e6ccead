"""Image restoration networks pruned for peak memory."""
