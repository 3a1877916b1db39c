"""Labelled examples written for this project: frames in YAML, filled from the lexicon."""

from classifiers.examples.example import Example
from classifiers.examples.generate import frame_is_held_out, generated_examples

__all__ = ["Example", "frame_is_held_out", "generated_examples"]
