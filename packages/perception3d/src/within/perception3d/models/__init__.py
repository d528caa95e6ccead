"""Networks of 3-D detection, one file a part."""
