"""A token folder with something to learn: each id mostly decides the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny import tiny_tokenizer

from alignment.tokenizer import special_ids, tokenizer_sha256
from alignment.tokens import I64, TokenFolder, write_tokens

CONTEXT = 16


def stream(tokens: int, vocabulary: int, seed: int) -> I64:
    """`tokens` ids: nine of ten follow a fixed permutation, the others are drawn."""
    generator = np.random.default_rng(seed)
    follows = np.random.default_rng(0).permutation(np.arange(3, vocabulary))
    found = np.empty(tokens, np.int64)
    found[0] = 3
    drawn, noise = generator.integers(3, vocabulary, tokens), generator.random(tokens) < 0.1
    for place in range(1, tokens):
        found[place] = drawn[place] if noise[place] else follows[found[place - 1] - 3]
    return found


def tiny_tokens(folder: Path, tokens: int = 4001, seed: int = 1) -> TokenFolder:
    """`folder/tokenizer` and, in `folder/arm`, `tokens` training ids with 641 held-out ones."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    size = len(tokenizer)
    return write_tokens(
        folder / "arm",
        [stream(tokens, size, seed)],
        [stream(641, size, 99)],
        context=CONTEXT,
        vocabulary=size,
        ids=special_ids(tokenizer),
        facts={"tokenizer_sha256": tokenizer_sha256(tokenizer)},
    )
