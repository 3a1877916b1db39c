"""The stream of one arm, laid: cut to whole rows, each document's fate, and `documents.parquet`.

In: the pieces that `slots.py` chose. Called by `alignment/arms.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from alignment.slots import ABSENT, ArmDocuments, Piece, Slots
from alignment.tokens import row_starts

I64 = npt.NDArray[np.int64]


def whole_rows(pieces: list[Piece], context: int, budget: int | None) -> list[Piece]:
    """The pieces up to the end of the last whole row within the budget."""
    total = sum(piece.tokens for piece in pieces)
    rows = len(row_starts(min(total, budget or total), context))
    room = rows * context + 1 if rows else total  # too few for one row: for the writer to refuse
    kept = []
    for piece in pieces:
        if room == 0:
            break
        tokens = min(room, piece.tokens)
        kept.append(Piece(piece.slot, piece.document, tokens, piece.replaces))
        room -= tokens
    return kept


def _own(pieces: Sequence[Piece]) -> dict[int, Piece]:
    return {piece.document: piece for piece in pieces if not piece.replaces}


def fates(
    pieces: Sequence[Piece], documents: ArmDocuments, lengths: I64, skipped: Sequence[tuple[str, str]]
) -> dict[str, int]:
    """Fate → documents of the arm; the fates but `read` add up to `read`."""
    own = _own(pieces)
    cut = int(sum(piece.tokens < lengths[documents.texts[number]] for number, piece in own.items()))
    found = Counter({"kept": len(own) - cut, "truncated": cut})
    found["skipped_budget"] = len(documents.doc_ids) - len(own)
    found.update(fate for _, fate in skipped)
    return {"read": sum(found.values()), **{fate: number for fate, number in sorted(found.items()) if number}}


def write_documents(
    path: Path,
    pieces: Sequence[Piece],
    slots: Slots,
    documents: ArmDocuments,
    lengths: I64,
    skipped: Sequence[tuple[str, str]],
) -> None:
    """One row a piece of the stream, then one a document that is not in it.

    Columns: doc_id; slot: the document whose place it is; start: its first token in the stream; tokens; fate.
    """
    starts = np.cumsum([0, *(piece.tokens for piece in pieces)])[:-1]
    own = _own(pieces)
    rows: list[tuple[str | None, str | None, int | None, int, str]] = []
    for piece, start in zip(pieces, starts.tolist(), strict=True):
        slot = slots.doc_ids[piece.slot]
        if piece.document == ABSENT:
            rows.append((None, slot, start, piece.tokens, "end_of_text"))
            continue
        whole = piece.tokens == lengths[documents.texts[piece.document]]
        fate = "replacement" if piece.replaces else "kept" if whole else "truncated"
        rows.append((documents.doc_ids[piece.document], slot, start, piece.tokens, fate))
    rows += [(doc_id, None, None, 0, "skipped_budget") for n, doc_id in enumerate(documents.doc_ids) if n not in own]
    rows += [(doc_id, None, None, 0, fate) for doc_id, fate in skipped]
    types = {"doc_id": pa.string(), "slot": pa.string(), "start": pa.int64(), "tokens": pa.int64(), "fate": pa.string()}
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    table = pa.table(
        {name: pa.array(column, kind) for (name, kind), column in zip(types.items(), columns, strict=True)}
    )
    pq.write_table(table, path)
