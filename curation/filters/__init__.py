"""Every filter, one file each. Importing this package imports every module in it, which fills `FILTERS`."""

from importlib import import_module
from pkgutil import iter_modules

from curation.filters.base import FILTERS

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

__all__ = ["FILTERS"]
