"""`python -m orlop`: the command line, for where the `orlop` script is not on the path."""

from __future__ import annotations

import sys

from .doors.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
