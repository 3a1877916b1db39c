"""Token shards: read back by hand, byte by byte, as Megatron-LM and numpy would."""

from __future__ import annotations

import io
import json
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.errors import ConfigError
from curation.tokens import TokenCache, Tokenizer, load_tokenizer, shard_files

tokenizers = pytest.importorskip("tokenizers")

END = "<|endoftext|>"
TEXTS = ["hello world", "naïve 🙂 text", f"it ends {END} here, or does it", "hello world"]


def tokenizer_json(end: str = END) -> bytes:
    """A byte-level tokenizer: every byte is a token, and one special token ends a text."""
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=257, special_tokens=[end], initial_alphabet=alphabet)
    inner.train_from_iterator([], trainer)
    return str(inner.to_str()).encode()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(tokenizer_json(), "tokenizer.json", None)


def test_an_end_stands_after_every_text_and_nowhere_else(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(TEXTS)

    assert [len(ids) for ids in encoded] == [len(text.encode()) + 1 for text in TEXTS]
    assert [int((ids == tokenizer.text_end_id).sum()) for ids in encoded] == [1, 1, 1, 1]
    assert [tokenizer.inner.decode(ids[:-1].tolist()) for ids in encoded] == TEXTS


def test_a_truncating_tokenizer_file_truncates_nothing() -> None:
    data = json.loads(tokenizer_json())
    data["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    data["padding"] = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": END}  # fmt: skip
    loaded = load_tokenizer(json.dumps(data).encode(), "tokenizer.json", None)

    assert [len(ids) for ids in loaded.encode(["x" * 50, "y"])] == [51, 2]


def test_megatron_files_are_read_back_as_megatron_reads_them(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(TEXTS)
    files = shard_files(encoded, "megatron", small=True)
    index, data = files[".idx"], files[".bin"]

    assert list(files) == [".bin", ".idx"]
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack("<QBQQ", index[9:34])
    assert (version, code, sequences, documents) == (1, 8, 4, 5)
    sizes = np.frombuffer(index, "<i4", sequences, 34)
    pointers = np.frombuffer(index, "<i8", sequences, 34 + sizes.nbytes)
    bounds = np.frombuffer(index, "<i8", documents, 34 + sizes.nbytes + pointers.nbytes)
    assert len(index) == 34 + sizes.nbytes + pointers.nbytes + bounds.nbytes
    assert bounds.tolist() == [0, 1, 2, 3, 4]
    read = [np.frombuffer(data, "<u2", size, pointer) for size, pointer in zip(sizes, pointers, strict=True)]
    assert [ids.tolist() for ids in read] == [ids.tolist() for ids in encoded]
    assert len(data) == 2 * sizes.sum()


def test_a_large_vocabulary_takes_four_bytes() -> None:
    files = shard_files([np.array([1, 70_000], np.uint32)], "megatron", small=False)

    assert struct.unpack("<B", files[".idx"][17:18]) == (4,)
    assert np.frombuffer(files[".bin"], "<i4").tolist() == [1, 70_000]


def test_npy_files_load_with_numpy(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(TEXTS)
    files = shard_files(encoded, "npy", small=True)
    ids, offsets = np.load(io.BytesIO(files[".npy"])), np.load(io.BytesIO(files[".offsets.npy"]))

    assert (ids.dtype, offsets.dtype) == (np.dtype("uint16"), np.dtype("int64"))
    assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == [e.tolist() for e in encoded]


def test_a_text_in_two_arms_is_encoded_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode = Tokenizer.encode

    def counted(self: Tokenizer, texts: list[str]) -> list[np.ndarray]:
        seen.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    cache = TokenCache(tokenizer)
    raw = cache.encode(pa.chunked_array([TEXTS[:2], TEXTS[2:]]))
    curated = cache.encode(pa.chunked_array([[TEXTS[1], "hello"]]))

    assert seen == [*TEXTS[:3], "hello"]
    assert [ids.tolist() for ids in (raw[1], raw[3])] == [ids.tolist() for ids in (curated[0], raw[0])]


@pytest.mark.parametrize(
    ("data", "text_end", "code"),
    [
        (b"{}", None, "bad-tokenizer"),
        (b"\xff", None, "bad-tokenizer"),
        (tokenizer_json("<|done|>"), None, "no-text-end"),
        (tokenizer_json(), "<|endoftxt|>", "unknown-token"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_refused(data: bytes, text_end: str | None, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_tokenizer(data, "tokenizer.json", text_end)

    assert [problem.code for problem in caught.value.problems] == [code]


def test_without_the_library_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"headwater\[tokens\]"):
        load_tokenizer(tokenizer_json(), "tokenizer.json", None)


def test_a_tokenizer_file_that_is_missing_is_refused_before_anything_runs(tmp_path: Path) -> None:
    from beam_jobs.config import Tokens
    from beam_jobs.tokens import tokenizer_of

    with pytest.raises(ConfigError) as caught:
        tokenizer_of(Tokens(tokenizer=str(tmp_path / "tokenizer.json")))

    assert [problem.code for problem in caught.value.problems] == ["no-tokenizer"]
