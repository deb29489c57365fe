"""`python -m detect.cli VERB ...`: the same as `detect VERB ...`."""

import sys

from detect.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
