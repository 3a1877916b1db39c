"""What a filter is: names the signals it needs, measures them if it can, judges them. It never edits or drops.

A filter file defines settings (thresholds with their source), signals, and bounds; `curation/decision.py` turns the
findings of all filters of a ruleset into verdicts. In: a `TextBatch` and the documents' other columns. Out: columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.kernels.text_batch import TextBatch
from curation.registry import Registry
from curation.settings import Settings

Producer = Literal["measure", "dedup", "score"]
Dtype = Literal["int64", "float64", "float32", "bool", "string", "spans", "mentions"]


@dataclass(frozen=True)
class Signal:
    """One number (or list of spans) about a document. `name` is local: the column is `<filter or alias>.<name>`."""

    name: str
    dtype: Dtype
    description: str  # what and in which unit, one sentence


@dataclass(frozen=True)
class Bound:
    """A document fails with `code` when its signal is on the wrong side of the threshold.

    below: fails when value < threshold. above: fails when value > threshold. A bound with `spans` names the spans
    column that says where.
    """

    code: str  # local: the reason carries `<filter or alias>.<code>`
    signal: str
    side: Literal["below", "above", "at_least", "at_most"]  # at_least: fails when >=, at_most: fails when <=
    threshold: float
    description: str
    spans: str | None = None

    def fails(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        compare = {"below": np.less, "above": np.greater, "at_least": np.greater_equal, "at_most": np.less_equal}
        result: npt.NDArray[np.bool_] = compare[self.side](values, self.threshold)
        return result


@dataclass(frozen=True)
class Finding:
    """The documents of a batch that fail one bound: parallel arrays, and spans where the bound has them."""

    code: str  # full: `gopher_quality.too_few_words`
    signal: str  # full: `gopher_quality.words`
    threshold: float
    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    spans: pa.ListArray | None = None  # SPANS, one list per row of `rows`; None: about the whole text


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class DocumentBatch:
    """What `measure` sees: the texts, and the other document columns."""

    texts: TextBatch
    documents: pa.Table = field(repr=False)  # DOCUMENTS schema, same rows

    def __len__(self) -> int:
        return len(self.texts)


class Filter(Generic[S]):
    """One filter: subclass, fill the class attributes, and `FILTERS.add(name, Subclass())`."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for `headwater list filters`
    settings_type: type[S]
    signals: ClassVar[tuple[Signal, ...]]
    producer: ClassVar[Producer] = "measure"
    # Settings that change what is measured, not only how it is judged. Two arms that differ in one of these need
    # two columns: the ruleset must give the second one another name with `as:`.
    measured_by: ClassVar[tuple[str, ...]] = ()

    def needed(self, settings: S) -> frozenset[str]:
        """Local names of the signals that judging with `settings` reads; the others need not be measured."""
        bounds = self.bounds(settings)
        return frozenset({b.signal for b in bounds} | {b.spans for b in bounds if b.spans})

    def measure(self, batch: DocumentBatch, settings: S) -> dict[str, pa.Array]:
        """One array per signal, rows as in `batch`; null = not measured. Only for `producer = "measure"`."""
        raise NotImplementedError(f"filter `{self.name}` is measured by the {self.producer} pass")

    def bounds(self, settings: S) -> tuple[Bound, ...]:
        """Every way to fail, in the order reasons are listed."""
        raise NotImplementedError

    def judge(self, signals: Mapping[str, pa.Array], settings: S, prefix: str) -> list[Finding]:
        """The findings of a batch. `signals` is keyed by full column name; `prefix` is the filter's name or alias.

        A null signal fails no bound: quarantining what could not be measured is `decide`'s business.
        """
        findings = []
        for bound in self.bounds(settings):
            column = f"{prefix}.{bound.signal}"
            array = signals[column]
            values = np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False))
            rows = np.flatnonzero(bound.fails(values))  # NaN (null) compares false on every side
            if not len(rows):
                continue
            spans = None
            if bound.spans is not None:
                spans = signals[f"{prefix}.{bound.spans}"].take(pa.array(rows))
            findings.append(
                Finding(f"{prefix}.{bound.code}", column, bound.threshold, rows.astype(np.int64), values[rows], spans)
            )
        return findings


FILTERS: Registry[Filter[Any]] = Registry("filter")
ARROW_TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


def arrow_type(dtype: Dtype) -> pa.DataType:
    """The Arrow type of a signal's column."""
    from curation.document import MENTIONS, SPANS

    return {"spans": SPANS, "mentions": MENTIONS}.get(dtype) or ARROW_TYPES[dtype]
