"""`python -m within.core.cli`, for environments without the console script."""

import sys

from within.core.cli.application import main

if __name__ == "__main__":
    sys.exit(main())
