"""`python -m mien`: the command where the `mien` script is not on the path."""

import sys

from mien.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
