"""Networks of a space's architectures, to be trained."""
