"""Flat arrays of spans → one Arrow list per document, without a Python object per span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.document import MENTION, SPAN

Ints = npt.NDArray[np.int32] | npt.NDArray[np.int64]


def list_offsets(rows: Ints, size: int) -> pa.Array:
    """Arrow list offsets of sorted row numbers."""
    return pa.array(np.r_[0, np.cumsum(np.bincount(rows, minlength=size))].astype(np.int32))


def span_lists(rows: Ints, start: Ints, end: Ints, labels: pa.Array, size: int) -> pa.Array:
    """SPANS of `size` documents from parallel arrays sorted by row."""
    flat = pa.StructArray.from_arrays(
        [pa.array(start.astype(np.int32)), pa.array(end.astype(np.int32)), labels.cast(pa.string())],
        fields=list(SPAN),
    )
    return pa.ListArray.from_arrays(list_offsets(rows, size), flat)


def named(codes: Ints, names: Sequence[str | None]) -> pa.Array:
    """names[code] for every code, as an Arrow string array."""
    return pa.array(names, pa.string()).take(pa.array(codes.astype(np.int64)))


def mention_lists(rows: Ints, columns: dict[str, pa.Array], size: int) -> pa.Array:
    """MENTIONS of `size` documents; `columns` holds one array per field of a mention, sorted by row."""
    fields = list(MENTION)
    flat = pa.StructArray.from_arrays([columns[field.name].cast(field.type) for field in fields], fields=fields)
    return pa.ListArray.from_arrays(list_offsets(rows, size), flat)
