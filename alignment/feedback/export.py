"""The answers of a store as preference rows, and the data card that goes with them."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.feedback.answers import pair_row, ranked_row, rating_rows
from alignment.feedback.card import SMALLEST_GROUP, card_markdown
from alignment.feedback.store import Store
from alignment.feedback.summary import summary
from alignment.preference_rows import AnyRow, pairs_from_ranked
from alignment.preferences import write_rows
from curation.errors import DataContractError, Problem, StageError


def export(store: Store, out: Path) -> dict[str, Any]:
    """Write `ranked.jsonl`, `pairs.jsonl`, `ratings.jsonl`, `card.json` and `card.md` into a folder.

    `pairs.jsonl` holds all C(K, 2) pairs of each ranking, ties left out, and the pairwise choices. Prompts stay as they
    were given, texts or messages; responses are texts. A file without rows is not written.

    Returns:
        What `card.json` holds.

    Raises:
        DataContractError: nobody has answered yet.
        StageError: the disk is full or cannot be written.
    """
    items, answers = store.items(), store.answers()
    if not answers:
        raise DataContractError(Problem("no-answers", "nobody has answered yet", store.where))
    rankings = [answer for answer in answers if "ranks" in answer.body]
    choices = [answer for answer in answers if "better" in answer.body]
    ranked = [ranked_row(items[answer.item], answer) for answer in rankings]
    rows: dict[str, Sequence[AnyRow]] = {
        "ranked.jsonl": ranked,
        "pairs.jsonl": pairs_from_ranked(ranked) + [pair_row(items[answer.item], answer) for answer in choices],
        "ratings.jsonl": [row for answer in rankings for row in rating_rows(items[answer.item], answer)],
    }
    files = {name: {"rows": len(found), **_written(out / name, found)} for name, found in rows.items() if found}
    used = Counter(answer.guidelines for answer in answers)
    models = Counter(model for answer in answers for model in items[answer.item].models)
    card = {
        "files": files,
        "first_answer": _day(min(answer.saved for answer in answers)),
        "last_answer": _day(max(answer.saved for answer in answers)),
        **summary(store),
        "guidelines": [{**text.model_dump(), "answers": used[text.version]} for text in store.guidelines()],
        "models": dict(sorted(models.items())),
        "background": background_counts(store.backgrounds(), len(store.annotators())),
    }
    _write(out / "card.json", json.dumps(card, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    _write(out / "card.md", card_markdown(card))
    return card


def background_counts(said: Iterable[Mapping[str, str]], annotators: int) -> dict[str, dict[str, int]]:
    """For each field how many people gave each value; groups below `SMALLEST_GROUP` are joined under "other"."""
    people = list(said)
    found = {}
    for name in sorted({field for one in people for field in one}):
        counts = Counter(one[name] for one in people if name in one)
        groups = {value: count for value, count in sorted(counts.items()) if count >= SMALLEST_GROUP}
        other = sum(counts.values()) - sum(groups.values())
        found[name] = {**groups, "other": other, "not said": annotators - sum(counts.values())}
    return found


def _written(path: Path, rows: Sequence[AnyRow]) -> dict[str, str]:
    """Write rows as they stand: messages in TRL's form are made by `headwater export-trl`."""
    of_rows = write_rows(path, rows, conversational=False)
    return {"rows_sha256": of_rows, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StageError(Problem("not-written", f"cannot write: {error}", str(path))) from None
