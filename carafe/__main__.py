"""`python -m carafe`: the same as the command `carafe`."""

import sys

from carafe.cli import main

if __name__ == "__main__":
    sys.exit(main())
