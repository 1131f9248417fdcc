"""`python -m tailtune` is the command `tailtune`."""

import sys

from tailtune.cli import main

sys.exit(main())
