"""All distinct texts of a corpus as ids, each once, on disk. Called by `alignment/arms.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignment.corpus import Corpus
from alignment.tokenizer import train_tokenizer
from alignment.tokens import dtype_of
from curation import tokens as corpus_tokens
from curation.seeding import derive_seed, unit_hash

I64 = npt.NDArray[np.int64]


def trained(corpus: Corpus, vocabulary: int, sample_bytes: int, seed: int) -> Any:
    """The tokenizer of all arms, from a sample of their distinct texts that their order cannot change."""
    share = min(1.0, sample_bytes / max(1, sum(corpus.bytes_of)))
    salt = derive_seed(seed, "tokenizer", "sample")
    texts = corpus.texts()
    return train_tokenizer(
        texts if share == 1.0 else (text for text in texts if unit_hash(text, salt) < share), vocabulary
    )


@dataclass(frozen=True)
class Encoded:
    """All distinct texts as ids, one after the other: begin, text, end."""

    ids: npt.NDArray[Any]
    offsets: I64  # (texts + 1,)

    @property
    def lengths(self) -> I64:
        return np.diff(self.offsets)

    def first(self, text: int, tokens: int) -> npt.NDArray[Any]:
        begin = int(self.offsets[text])
        return self.ids[begin : begin + tokens]


def plain_encoder(tokenizer: Any) -> corpus_tokens.Tokenizer:
    """Reads no control token in a text."""
    plain = tokenizer.backend_tokenizer.to_str().encode()
    return corpus_tokens.load_tokenizer(plain, "tokenizer", str(tokenizer.eos_token))


def encode(corpus: Corpus, tokenizer: Any, work: Path) -> Encoded:
    inner = plain_encoder(tokenizer)
    bos = np.array([tokenizer.bos_token_id])
    work.mkdir(parents=True, exist_ok=True)
    dtype = dtype_of(len(tokenizer))
    lengths = []
    batch: list[str] = []
    with (work / "ids.bin").open("wb") as stream:

        def flush() -> None:
            for ids in inner.encode(batch):  # the end of text stands last already
                stream.write(np.concatenate((bos, ids)).astype(dtype).tobytes())
                lengths.append(len(ids) + 1)
            batch.clear()

        for text in corpus.texts():
            batch.append(text)
            if len(batch) == corpus_tokens.BATCH:
                flush()
        flush()
    offsets = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64)))).astype(np.int64)
    size = (work / "ids.bin").stat().st_size
    ids = np.memmap(work / "ids.bin", dtype, mode="r") if size else np.zeros(0, dtype)
    return Encoded(ids, offsets)
