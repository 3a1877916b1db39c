"""A batch of texts as one UTF-8 buffer and offsets: what every kernel scans and every filter measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
T = TypeVar("T")


class TextBatch:
    """`len(batch)` texts in one buffer: text i is `data[offsets[i]:offsets[i + 1]]`.

    Scans that several filters share (word and line tables) are made once through `shared`.
    """

    def __init__(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Args: texts: string or large_string array without nulls; not copied unless chunked."""
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
            if isinstance(texts, pa.ChunkedArray):  # pyarrow keeps an empty chunked array chunked
                texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], texts.type)
        if texts.null_count:
            raise ValueError("a text batch has no nulls")
        width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
        _, offsets, data = texts.buffers()
        self.array = texts
        if len(texts) == 0 or offsets is None:
            self.offsets: I64 = np.zeros(len(texts) + 1, np.int64)
        else:
            stop = texts.offset + len(texts) + 1
            self.offsets = np.frombuffer(offsets, width)[texts.offset : stop].astype(np.int64)
        self.data: U8 = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
        self._shared: dict[object, object] = {}

    @classmethod
    def of(cls, texts: Sequence[str]) -> TextBatch:
        return cls(pa.array(texts, pa.string()))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        return str(self.array[index].as_py())

    def strings(self) -> list[str]:
        """All texts as Python strings, made once."""
        return self.shared("strings", lambda _: self.array.to_pylist())

    def shared(self, key: object, make: Callable[[TextBatch], T]) -> T:
        """`make(self)`, computed once for this batch under `key`."""
        if key not in self._shared:
            self._shared[key] = make(self)
        return self._shared[key]  # type: ignore[return-value]
