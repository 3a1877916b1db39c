"""Compiled scans over an Arrow string buffer."""
