"""Search spaces as plain data: an architecture is a tuple of small integers, one for each gene."""

from within.nas.spaces.space import Architecture, Gene, Space

__all__ = ["Architecture", "Gene", "Space"]
