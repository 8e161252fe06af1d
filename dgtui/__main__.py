"""`python -m dgtui`: the same program as the `dgtui` script."""

import sys

from dgtui.cli import main

if __name__ == "__main__":
    sys.exit(main())
