"""Which documents the English models and lexicon must not judge: those that speak another language.

German "die" is an article and French "retard" a delay; without this gate 127 of the 155 German documents of the sample
corpus went as hateful use. Only documents that some score accuses are looked at, so the gate costs next to nothing.
What it lets go carries zero scores and mentions of role `uncertain` with the cue `other_language`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from classifiers.language import LanguageClassifier
from curation.kernels.text_batch import I64

# Numeric columns, and the score from which a document counts as accused: below it no shipped ruleset acts.
ACCUSING = {
    "toxicity.toxicity": 0.2,
    "sentence.toxic_sentences": 1,
    "context.max_use": 0.2,
    "context.document_use": 0.2,
}
SPAN_COLUMNS = ("toxicity.spans", "sentence.spans", "context.use_spans", "context.hateful_spans")
# The label must be another language's with at least this probability: short dialect and slang is often labelled wrongly
# with less, and a wrong gate would let hateful use stay.
MIN_PROBABILITY = 0.5
CUE = "other_language"


class LanguageGate:
    """Finds and clears the documents of other languages than `languages`."""

    def __init__(self, languages: tuple[str, ...], model: LanguageClassifier | None = None) -> None:
        self.languages = frozenset(languages)
        self.model = model or LanguageClassifier.shipped()

    def apply(self, columns: Mapping[str, pa.Array], texts: pa.Array) -> dict[str, pa.Array]:
        """`columns` with the documents of other languages cleared."""
        foreign = self.foreign(columns, texts)
        return cleared(columns, foreign) if len(foreign) else dict(columns)

    def foreign(self, columns: Mapping[str, pa.Array], texts: pa.Array) -> I64:
        """Rows that are accused and speak another language."""
        accused = np.zeros(len(texts), bool)
        for name, least in ACCUSING.items():
            if name in columns:
                values = columns[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
                accused |= values >= least
        rows = np.flatnonzero(accused)
        labels, probabilities = self.model.predict(texts.take(pa.array(rows)).to_pylist())
        other = np.array([label not in self.languages for label in labels], bool)
        chosen: I64 = rows[other & (probabilities >= MIN_PROBABILITY)]
        return chosen


def cleared(columns: Mapping[str, pa.Array], rows: I64) -> dict[str, pa.Array]:
    """`columns` with zero scores, no spans and undecided mentions in `rows`; nulls stay nulls."""
    out = dict(columns)
    gone = np.zeros(max(len(array) for array in columns.values()), bool)
    gone[rows] = True
    for name in ACCUSING:
        if name in out:
            array = out[name]
            values = np.where(gone, 0, array.fill_null(0).to_numpy(zero_copy_only=False))
            out[name] = pa.array(values, mask=np.asarray(array.is_null())).cast(array.type)
    for name in SPAN_COLUMNS:
        if name in out:
            out[name] = _without_items(out[name], gone)
    if "toxicity.stage" in out:
        stage = np.array(out["toxicity.stage"].to_pylist(), object)
        stage[gone & (stage != np.array(None))] = CUE
        out["toxicity.stage"] = pa.array(stage.tolist(), pa.string())
    if "context.mentions" in out:
        out["context.mentions"] = _undecided(out["context.mentions"], gone)
    return out


def _items(lists: pa.Array) -> tuple[I64, npt.NDArray[np.int64]]:
    """For each item of a list array the row it belongs to, and the number of items per row."""
    lengths = np.asarray(lists.value_lengths().fill_null(0), np.int64)
    return np.repeat(np.arange(len(lists)), lengths), lengths


def _without_items(lists: pa.Array, gone: npt.NDArray[np.bool_]) -> pa.Array:
    rows, lengths = _items(lists)
    kept = lists.flatten().filter(pa.array(~gone[rows]))
    offsets = np.concatenate(([0], np.cumsum(np.where(gone, 0, lengths)))).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), kept, type=lists.type, mask=lists.is_null() if lists.null_count else None
    )


def _undecided(mentions: pa.Array, gone: npt.NDArray[np.bool_]) -> pa.Array:
    rows, lengths = _items(mentions)
    if not gone[rows].any():
        return mentions
    flat = mentions.flatten()
    hit = pa.array(gone[rows])
    fields = list(mentions.type.value_type)
    changed = {"role": pa.scalar("uncertain"), "cue": pa.scalar(CUE)}
    arrays = []
    for field in fields:
        values = flat.field(field.name)
        if field.name in changed:
            values = pc.if_else(hit, changed[field.name], values.cast(pa.string())).cast(field.type)
        arrays.append(values)
    struct = pa.StructArray.from_arrays(arrays, fields=fields)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), struct, type=mentions.type, mask=mentions.is_null() if mentions.null_count else None
    )
