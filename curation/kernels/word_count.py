"""How many words a text has: the unit in which the `sampled` arm matches another arm's loss."""

from __future__ import annotations

import numpy as np

from curation.kernels.shingles import shared_words
from curation.kernels.text_batch import I64, TextBatch


def word_counts(batch: TextBatch) -> I64:
    """Words per text (the words of `curation.kernels.shingles`), shape (len(batch),)."""
    _, offsets = shared_words(batch)
    return np.diff(offsets)
