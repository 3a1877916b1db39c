"""`python -m curation` is `headwater`."""

import sys

from curation.cli import main

sys.exit(main())
