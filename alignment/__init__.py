"""Arms → models → alignment → evaluation → comparison. Needs the extra `train` (torch, transformers)."""
