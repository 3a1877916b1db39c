"""Every filter, one file each. Importing this package fills the `FILTERS` registry."""
