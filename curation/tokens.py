"""Texts → token shards: encode with a `tokenizer.json`, lay the ids out as trainers read them. Opens no file of a run.

In: texts. Out: the bytes of each file of a token shard. Called by `beam_jobs/tokens.py`, which writes them.

- `megatron`: `.bin` holds the ids of all documents one after the other, `.idx` is the index of Megatron-LM's
  `IndexedDataset` (megatron/core/datasets/indexed_dataset.py): magic, version 1, type code, counts, int32 lengths,
  int64 byte offsets, int64 document bounds. One sequence a document.
- `npy`: `.npy` holds the same ids, `.offsets.npy` (int64) where each document begins, and last the number of ids.
"""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from curation.errors import ConfigError, Problem, unknown_name

TokenFormat = Literal["megatron", "npy"]
I64 = npt.NDArray[np.int64]

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
UINT16, INT32 = 8, 4  # Megatron-LM's type codes
# Megatron-LM takes two bytes for vocabularies of fewer than 65,500 ids (`DType.optimal_dtype`).
SMALL_VOCABULARY = 65_500
# Names that published tokenizers give their end-of-text token: GPT-2 and OLMo, Llama 3, Llama 2 and T5, Gemma, BERT.
TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
BATCH = 512  # texts encoded at a time


@dataclass(frozen=True)
class Tokenizer:
    """A loaded tokenizer and the id put after every document."""

    inner: Any  # tokenizers.Tokenizer, which ships no types
    vocabulary: int
    text_end: str
    text_end_id: int

    @property
    def is_small(self) -> bool:
        return self.vocabulary < SMALL_VOCABULARY

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text, the end of text last.

        What looks like a special token inside a text is encoded as the characters it is: a corpus must not be able to
        end a document, or to speak as the user of a chat.
        """
        encoded = self.inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array([*item.ids, self.text_end_id], np.uint32) for item in encoded]


def load_tokenizer(data: bytes, where: str, text_end: str | None) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`.

    Args:
        where: the place to name in an error.
        text_end: the token to put after a document; None: the first of `TEXT_ENDS` that the tokenizer has.

    Raises:
        ConfigError: the `tokenizers` library is missing, the file is no tokenizer, or it has no such token.
    """
    if importlib.util.find_spec("tokenizers") is None:
        hint = "pip install 'headwater[tokens]'"
        raise ConfigError(Problem("missing-extra", "token shards need the `tokenizers` library", where, hint=hint))
    from tokenizers import Tokenizer as Inner

    try:
        inner = Inner.from_str(data.decode("utf-8"))
    except Exception as error:  # noqa: BLE001 – the library raises bare Exception for whatever is wrong with the file
        problem = Problem("bad-tokenizer", f"not a tokenizer: {error}", where, "a tokenizer.json of the HF library")
        raise ConfigError(problem) from None
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = True
    names = (text_end,) if text_end is not None else TEXT_ENDS
    for name in names:
        number = inner.token_to_id(name)
        if number is not None:
            return Tokenizer(inner, int(inner.get_vocab_size(with_added_tokens=True)), name, number)
    if text_end is not None:
        raise ConfigError(unknown_name("token", text_end, _special(inner), f"{where}: text_end"))
    hint = "say which token ends a document: `tokens: {text_end: ...}`"
    raise ConfigError(Problem("no-text-end", "no end-of-text token", where, f"one of: {', '.join(TEXT_ENDS)}", hint))


def _special(inner: Any) -> list[str]:
    return [str(token.content) for token in inner.get_added_tokens_decoder().values()]


class TokenCache:
    """Encoded texts of a shard, each text once however many arms carry it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._at: dict[bytes, int] = {}
        self._ids: list[npt.NDArray[np.uint32]] = []

    def encode(self, texts: pa.ChunkedArray) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text."""
        found = []
        for first in range(0, len(texts), BATCH):
            batch = texts.slice(first, BATCH).to_pylist()
            keys = [xxhash.xxh3_128_digest(text.encode()) for text in batch]
            new = {key: text for key, text in zip(keys, batch, strict=True) if key not in self._at}
            for key, ids in zip(new, self.tokenizer.encode(list(new.values())), strict=True):
                self._at[key] = len(self._ids)
                self._ids.append(ids)
            found += [self._ids[self._at[key]] for key in keys]
        return found


def shard_files(documents: Sequence[npt.NDArray[np.uint32]], layout: TokenFormat, small: bool) -> dict[str, bytes]:
    """Suffix → content of the files of one token shard, in the order in which they are to be written."""
    lengths = np.array([len(ids) for ids in documents], np.int64)
    flat = np.concatenate(documents) if documents else np.zeros(0, np.uint32)
    if layout == "megatron":
        width = np.dtype("<u2") if small else np.dtype("<i4")
        return {".bin": flat.astype(width).tobytes(), ".idx": megatron_index(lengths, width, small)}
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype("<i8")
    return {".npy": _npy(flat.astype("<u2" if small else "<u4")), ".offsets.npy": _npy(offsets)}


def megatron_index(lengths: I64, width: np.dtype[Any], small: bool) -> bytes:
    """The bytes of an `.idx` file: one sequence a document."""
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])) if len(lengths) else np.zeros(0, np.int64)
    return b"".join(
        (
            MAGIC,
            struct.pack("<QB", VERSION, UINT16 if small else INT32),
            struct.pack("<QQ", len(lengths), len(lengths) + 1),
            lengths.astype("<i4").tobytes(),
            (starts * width.itemsize).astype("<i8").tobytes(),
            np.arange(len(lengths) + 1).astype("<i8").tobytes(),
        )
    )


def _npy(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()
