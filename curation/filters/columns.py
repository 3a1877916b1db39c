"""The columns and bounds that filters build out of plain arrays and rows: spans, ratios, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.document import SPAN, SPANS
from curation.filters.base import Bound


def spans_column(
    documents: int,
    rows: npt.NDArray[Any],
    starts: npt.NDArray[Any],
    ends: npt.NDArray[Any],
    label_ids: npt.NDArray[Any],
    labels: Sequence[str],
) -> pa.Array:
    """A SPANS array with one list per document.

    Args:
        documents: length of the result.
        rows: document of each span, ascending; `starts`, `ends` (code points) and `label_ids` run along with it.
        labels: what the label ids mean.
    """
    offsets = np.zeros(documents + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=documents), out=offsets[1:])
    names = pa.DictionaryArray.from_arrays(pa.array(label_ids, pa.int32()), pa.array(labels, pa.string()))
    struct = pa.StructArray.from_arrays(
        [pa.array(starts, pa.int32()), pa.array(ends, pa.int32()), names.cast(pa.string())], fields=list(SPAN)
    )
    return pa.ListArray.from_arrays(pa.array(offsets), struct, type=SPANS)


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """numerator / denominator, 0 where the denominator is 0 (a text without words has no share of anything)."""
    result = np.zeros(len(numerator), np.float64)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) != 0)
    return result


def bounds_of(rules: tuple[tuple[str, str, str, float | None, str], ...]) -> tuple[Bound, ...]:
    """Bounds from rows of (code, signal, side, threshold, description); a rule without threshold is off."""
    return tuple(
        Bound(code, signal, side, float(threshold), description)  # type: ignore[arg-type]
        for code, signal, side, threshold, description in rules
        if threshold is not None
    )
