"""Texts of all arms → one byte-level BPE tokenizer with a chat template, as a Hugging Face directory.

Every arm gets the same tokenizer, trained once on the union of their texts: trained on a curated arm alone it would
lose the words that curation removes, and bits of two arms could not be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from curation.errors import ConfigError, Problem

PAD, BOS, EOS = "<|pad|>", "<|begin|>", "<|endoftext|>"  # `EOS` is the first of curation.tokens.TEXT_ENDS
ROLES = ("system", "user", "assistant")
SPECIAL = (PAD, BOS, EOS, *(f"<|{role}|>" for role in ROLES))
ALPHABET = 256  # bytes: every text can be encoded, so there is no unknown token
SMALLEST = len(SPECIAL) + ALPHABET
MIN_FREQUENCY = 2  # a pair seen once is no regularity; the default of the tokenizers library's GPT-2 recipe
BATCH = 1000  # texts handed over at a time

# An assistant's turn ends with the end of text; the markers tell TRL's `assistant_only_loss` what was generated.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no such role: ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (Radford 2019, §2.2) with distinct padding, begin and end, and a chat template.

    The order of the texts does not matter: the trainer counts words, and breaks ties between pairs by their ids. So
    the same texts give the same files, however they are sharded. A text that occurs twice counts twice.

    Args:
        texts: read once.
        vocabulary: ids at most, the special ones and the 256 bytes among them; fewer when the texts hold too few pairs
            that occur `MIN_FREQUENCY` times.

    Returns:
        A tokenizer that puts `BOS` before a text when asked for special tokens, and nothing after it.

    Raises:
        ConfigError: `vocabulary` has no room for the bytes and the special tokens.
    """
    if vocabulary < SMALLEST:
        expected = f"at least {SMALLEST}: {ALPHABET} bytes and {len(SPECIAL)} special tokens"
        raise ConfigError(
            Problem("small-vocabulary", f"a vocabulary of {vocabulary}", "tokenizer.vocabulary", expected)
        )
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=MIN_FREQUENCY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_batches(texts), trainer)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, inner.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        chat_template=CHAT_TEMPLATE,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a Hugging Face directory, or of a model on the hub by name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(Problem("no-tokenizer", f"cannot load a tokenizer: {first}", str(path))) from None


def special_ids(tokenizer: Any) -> dict[str, int]:
    """`pad`, `bos` and `eos` ids, as `alignment.model.new_model` wants them."""
    return {
        "pad": int(tokenizer.pad_token_id),
        "bos": int(tokenizer.bos_token_id),
        "eos": int(tokenizer.eos_token_id),
    }


def _batches(texts: Iterable[str]) -> Iterator[Sequence[str]]:
    rest = iter(texts)
    while batch := list(islice(rest, BATCH)):
        yield batch


def tokenizer_sha256(tokenizer: Any) -> str:
    """sha256 over all that decides which ids a text or dialogue gets; padding and truncation are a batch's, not its."""
    inner = json.loads(tokenizer.backend_tokenizer.to_str())
    inner["padding"] = inner["truncation"] = None
    special = [tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token]
    parts = [json.dumps(inner, sort_keys=True), str(tokenizer.chat_template), json.dumps(special)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
