"""`python -m scratchgan` is the command `scratchgan`."""

import sys

from scratchgan.cli import main

if __name__ == "__main__":
    sys.exit(main())
