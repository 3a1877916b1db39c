"""Numbers about a trained model, one file a metric. Importing the package fills `METRICS`."""

from __future__ import annotations

from importlib import import_module

from alignment.metrics.base import METRICS

NAMES = (
    *("arc", "bits_per_byte", "blimp", "crows_pairs", "emotion", "hellaswag", "lambada", "occupations", "openbook_qa"),
    *("over_refusal", "piqa", "richness", "stereoset", "toxicity", "truthfulqa", "understanding", "winogrande"),
)
for _name in NAMES:
    import_module(f"alignment.metrics.{_name}")

__all__ = ["METRICS"]
