"""A tokenizer and models small enough for a test to train."""

from __future__ import annotations

from functools import lru_cache

from transformers import PreTrainedTokenizerFast

from alignment.tokenizer import train_tokenizer

SENTENCES = (
    "The river rises in the hills above the mill and runs past the old bridge to the sea.",
    "Every morning the baker carries warm bread across the square to the school.",
    "Who can say why the swallows came back so early this year?",
    "She wrote the letter twice, read it once and put it in the drawer with the others.",
    "In winter the lake freezes, and the children walk over it to the other side.",
    "Twelve boats went out in the morning and eleven came home before the storm.",
    "Please tell me how to plant an apple tree, and when to water it.",
    "I am sorry, I do not know the answer to that question.",
    "The capital of the country is the city with the oldest bridge over the river.",
    "To make tea, boil the water, warm the pot and wait for four minutes.",
)


@lru_cache(maxsize=1)
def _trained() -> PreTrainedTokenizerFast:
    return train_tokenizer(SENTENCES * 2, 400)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most 400 ids: pad, bos and eos are distinct, and it has a chat template."""
    return _trained()
