"""Every filter, one file each. Importing this package fills the `FILTERS` registry."""

from curation.filters import (
    fineweb,
    gopher_quality,
    gopher_repetition,
)
from curation.filters.base import FILTERS

__all__ = ["FILTERS", "fineweb", "gopher_quality", "gopher_repetition"]
