"""A tokenizer, models and rows small enough for a test to train on."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from alignment.model import new_model
from alignment.rows import Example
from alignment.tokenizer import special_ids, train_tokenizer

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


def tiny_llama(seed: int = 0) -> Any:
    """A 160k Llama for the tiny tokenizer."""
    tokenizer = tiny_tokenizer()
    return new_model("160k", len(tokenizer), special_ids(tokenizer), seed)


def tiny_gpt2(seed: int = 0) -> Any:
    """A GPT-2 of two layers: learnt positions, biases, another attention code than Llama's."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=400, n_embd=32, n_layer=2, n_head=2, n_positions=128, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    return GPT2LMHeadModel(config)


def some_examples(count: int, seed: int = 0, longest: int = 30) -> list[Example]:
    """Random ids that begin with bos and end with eos; prompts and responses of up to `longest` tokens."""
    draw = np.random.default_rng(seed)
    return [
        Example(
            (1, *draw.integers(6, 400, draw.integers(1, longest)).tolist()),
            (*draw.integers(6, 400, draw.integers(0, longest)).tolist(), 2),
        )
        for _ in range(count)
    ]
