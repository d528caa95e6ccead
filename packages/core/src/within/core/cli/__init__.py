"""The command line. Importing it does not import torch, so that `within --help` answers at once."""

from within.core.cli.application import main

__all__ = ["main"]
