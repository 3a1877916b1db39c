"""A supervised fastText model file (.bin, .ftz) → one number per word and n-gram.

A two-label fastText model is linear: its logit is the mean over words and n-grams of (row · (v₁ − v₀)), where v are the
two output rows (Joulin et al., "Bag of Tricks for Efficient Text Classification", section 2). So one float per row
says all that the model knows, every window of a text is a difference of prefix sums, and a score can be traced to its
words. The file is read directly: nothing is unpickled and no C++ runtime is needed to score.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.errors import ConfigError, Problem

F32 = npt.NDArray[np.float32]
MAGIC = 793712314  # fastText's FASTTEXT_FILEFORMAT_MAGIC_INT32
VERSIONS = (11, 12)
KSUB = 256  # centroids of a sub-quantiser
EOS = "</s>"


@dataclass(frozen=True)
class LinearModel:
    """The collapsed model. `values[i]` belongs to word i, `values[len(words) + b]` to n-gram bucket b."""

    words: tuple[str, ...]
    labels: tuple[str, ...]
    values: F32
    buckets: int
    word_ngrams: int
    kept: npt.NDArray[np.int32] | None  # bucket → kept bucket or -1, when the model was pruned


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def read(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self.raw, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def array(self, dtype: str, count: int) -> npt.NDArray[np.generic]:
        found = np.frombuffer(self.raw, dtype, count, self.at)
        self.at += found.nbytes
        return found

    def word(self) -> str:
        stop = self.raw.index(b"\0", self.at)
        word = self.raw[self.at : stop].decode("utf-8", "replace")
        self.at = stop + 1
        return word


def read_linear_model(path: Path, positive: str) -> LinearModel:
    """The model in `path`, as evidence for label `positive` against the other label.

    Raises:
        ConfigError: not a fastText file, not supervised, character n-grams, or not exactly two labels.
    """
    try:
        return _read(_Reader(path.read_bytes()), path, positive)
    except OSError as error:
        raise ConfigError(Problem("no-model", f"cannot be read: {error.strerror}", str(path))) from error
    except (struct.error, ValueError, IndexError) as error:
        raise ConfigError(Problem("bad-model", f"not a whole fastText model: {error}", str(path))) from error


def _read(reader: _Reader, path: Path, positive: str) -> LinearModel:
    magic, version = reader.read("ii")
    if magic != MAGIC or version not in VERSIONS:
        raise ConfigError(Problem("bad-model", "not a fastText model file", str(path), "a .bin or .ftz file"))
    _, _, _, _, _, word_ngrams, _, kind, buckets, _, max_chars, _ = reader.read("12i")
    reader.read("d")
    size, n_words, n_labels = reader.read("iii")
    _, pruned = reader.read("qq")
    names = []
    for _ in range(size):
        names.append(reader.word())
        reader.read("qb")
    labels = tuple(names[n_words:])
    if kind != 3 or max_chars != 0 or n_labels != 2 or positive not in labels:
        raise ConfigError(
            Problem(
                "bad-model",
                f"labels {labels}, character n-grams up to {max_chars}, model kind {kind}",
                str(path),
                f"a supervised word model with two labels, one of them `{positive}`",
            )
        )
    kept = None
    if pruned >= 0:
        pairs = reader.array("<i4", 2 * pruned).reshape(-1, 2)
        kept = np.full(max(buckets, 1), -1, np.int32)
        kept[pairs[:, 0]] = pairs[:, 1]
    (quantised,) = reader.read("?")
    rows, codes = _matrix(reader, bool(quantised))
    (quantised_out,) = reader.read("?")
    out, _ = _matrix(reader, bool(quantised and quantised_out))
    weight = (out[labels.index(positive)] - out[1 - labels.index(positive)]).astype(np.float32)
    values = rows @ weight if codes is None else codes.project(weight)
    return LinearModel(tuple(names[:n_words]), labels, values.astype(np.float32), buckets, word_ngrams, kept)


@dataclass(frozen=True)
class _Codes:
    """A product-quantised matrix: codes (m, subs), centroids (dim · 256 floats), norms (m,)."""

    codes: npt.NDArray[np.uint8]
    centroids: F32
    dim: int
    width: int
    norms: F32

    def project(self, weight: F32) -> F32:
        """matrix @ weight without unpacking the matrix."""
        total = np.zeros(len(self.codes), np.float32)
        for sub in range(self.codes.shape[1]):
            low = sub * self.width
            high = min(low + self.width, self.dim)
            table = self.centroids[low * KSUB : high * KSUB].reshape(KSUB, high - low) @ weight[low:high]
            total += table[self.codes[:, sub]]
        return total * self.norms


def _matrix(reader: _Reader, quantised: bool) -> tuple[F32, _Codes | None]:
    if not quantised:
        m, n = reader.read("qq")
        return reader.array("<f4", m * n).reshape(m, n).astype(np.float32), None
    (has_norm,) = reader.read("?")
    m, _ = reader.read("qq")
    (code_size,) = reader.read("i")
    codes = reader.array("u1", code_size)
    dim, subs, width, _ = reader.read("iiii")
    centroids = reader.array("<f4", dim * KSUB).astype(np.float32)
    norms = np.ones(m, np.float32)
    if has_norm:
        norm_codes = reader.array("u1", m)
        reader.read("iiii")
        norms = reader.array("<f4", KSUB).astype(np.float32)[norm_codes]
    packed = _Codes(codes.reshape(m, subs).astype(np.uint8), centroids, dim, width, norms)
    return np.zeros((0, dim), np.float32), packed
