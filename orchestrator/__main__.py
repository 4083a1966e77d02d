"""`python -m orchestrator`: see `cli`."""

import sys

from orchestrator.cli import main

sys.exit(main())
