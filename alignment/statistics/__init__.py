"""Statistics of the comparison of arms: arrays in, numbers out. No files, no torch."""
