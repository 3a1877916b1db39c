"""The data card beside every reward model: which rows it learnt from, who gave them, how far they agree, known skews.

    REWARD/data_card.json, data_card.md

What rows say of themselves is counted for any rows. Rows of `headwater feedback export` bring the card of the export,
with the guidelines' text and what annotators said about themselves. What nobody can know from the rows is said to be
unknown: of rows that no two people judged, how much of the labels is noise.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from alignment import processes
from alignment.direct import prompt_key
from alignment.feedback.agreement import ordinal_alpha
from alignment.feedback.card import card_markdown, number, share_text, table
from alignment.json_rows import write_text
from alignment.preference_rows import Comparison, PreferenceRow, rows_sha256
from curation.errors import Problem, StageError

CARD, PAGE, EXPORT_CARD = "data_card.json", "data_card.md", "card.json"
UNKNOWN = "unknown: no two named annotators judged the same responses"


def write_data_card(folder: Path, rows: Sequence[Comparison], files: Sequence[Path] = ()) -> None:
    """Write the card of `rows` into a stage's folder.

    Raises:
        StageError: the disk is full or cannot be written.
    """
    if not processes.first():
        return
    card = data_card(rows, files)
    try:
        write_text(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        write_text(folder / PAGE, markdown(card))
    except OSError as error:
        raise StageError(Problem("not-written", f"cannot write: {error}", str(folder))) from None


def data_card(rows: Sequence[Comparison], files: Sequence[Path] = ()) -> dict[str, Any]:
    """The card as JSON.

    Args:
        rows: all that the model was given, held-out ones too.
        files: where they came from. A file with the `card.json` of its export beside it brings that card; a card of
            other answers than the file's is not taken.
    """
    named = [row for row in rows if row.annotator_id]
    each = Counter(row.annotator_id for row in named)
    pools = {
        pool: {
            "rows": sum(row.pool == pool for row in rows),
            "annotators": len({row.annotator_id for row in named if row.pool == pool}),
        }
        for pool in sorted({row.pool for row in rows})
    }
    agreement = _agreement(rows)
    measured = any(found["alpha"] is not None for found in agreement.values())
    described = [_file(path) for path in files if path.is_file()]
    exports = [one["export"] for one in described if one["export"] is not None]
    return {
        "schema_version": 1,
        "rows": len(rows),
        "rows_sha256": rows_sha256(rows),
        "pairs": sum(isinstance(row, PreferenceRow) for row in rows),
        "lists": sum(not isinstance(row, PreferenceRow) for row in rows),
        "prompts": len({prompt_key(row.prompt) for row in rows}),
        "files": [{name: value for name, value in one.items() if name != "export"} for one in described],
        "sources": dict(sorted(Counter(row.source for row in rows).items())),
        "guidelines": dict(sorted(Counter(row.guidelines for row in rows).items())),
        "annotators": len(each),
        "rows_without_annotator": len(rows) - len(named),
        "pools": pools,
        "agreement": agreement,
        "label_noise": "see agreement" if measured else UNKNOWN,
        "skews": {"largest_annotator_share": _share(max(each.values(), default=0), len(named)), **_longer(rows)},
        "exports": list({json.dumps(one, sort_keys=True): one for one in exports}.values()),
    }


def markdown(card: Mapping[str, Any]) -> str:
    """The page for what `data_card.json` holds; cards of exports follow it whole."""
    files = [(one["file"], one["sha256"], one["card"]) for one in card["files"]]
    alphas = [(kind, number(found["alpha"]), found["units"]) for kind, found in card["agreement"].items()]
    pools = [(_or(name), pool["rows"], pool["annotators"]) for name, pool in card["pools"].items()]
    skews = card["skews"]
    parts = [
        "# Data card of a reward model",
        (
            f"{card['rows']} rows ({card['pairs']} pairs, {card['lists']} lists) about {card['prompts']} prompts;"
            f" sha256 of the rows `{card['rows_sha256']}`."
        ),
        "\n".join(table(("file", "sha256", "card of its export"), files)) if files else "The rows came from no file.",
        "## Who",
        f"{card['annotators']} named annotators; {card['rows_without_annotator']} rows name nobody.",
        "\n".join(table(("pool", "rows", "annotators"), pools)),
        "\n".join(table(("source", "rows"), [(_or(name), count) for name, count in card["sources"].items()])),
        "\n".join(table(("guidelines", "rows"), [(_or(name), count) for name, count in card["guidelines"].items()])),
        "## Agreement",
        "Krippendorff's α for ordinal values, of what two named annotators or more judged.",
        "\n".join(table(("answers", "α", "units"), alphas)),
        f"Label noise: {card['label_noise']}.",
        "## Known skews",
        (
            f"- the busiest annotator gave {share_text(skews['largest_annotator_share'])} rows that name one\n"
            f"- the longer response is preferred in {share_text(skews['longer_is_better'])} pairs of different length"
        ),
        *(card_markdown(one).replace("\n#", "\n##").replace("# Data", "## Data", 1).strip() for one in card["exports"]),
    ]
    return "\n\n".join(parts) + "\n"


def _file(path: Path) -> dict[str, Any]:
    """Name, sha256, what became of the export's card beside it, and that card when it is of this very file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found: dict[str, Any] = {"file": path.name, "sha256": digest, "card": "none", "export": None}
    beside = path.with_name(EXPORT_CARD)
    if not beside.is_file():
        return found
    try:
        card = json.loads(beside.read_text(encoding="utf-8"))
        stated = card["files"][path.name]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return {**found, "card": "not that of an export with this file"}
    if stated != digest:
        return {**found, "card": "of other answers than these"}
    return {**found, "card": "taken", "export": card}


def _agreement(rows: Sequence[Comparison]) -> dict[str, dict[str, Any]]:
    """α of ranks and of choices; each named annotator has one value a unit, the last."""
    values: dict[str, defaultdict[Hashable, dict[str, int]]] = {
        "ranks": defaultdict(dict),
        "choices": defaultdict(dict),
    }
    for row in rows:
        if not row.annotator_id:
            continue
        key = prompt_key(row.prompt)
        if isinstance(row, PreferenceRow):
            first, second = sorted((row.chosen, row.rejected))
            values["choices"][key, first, second][row.annotator_id] = 1 if row.chosen == first else 2
            continue
        for text, rank in zip(row.responses, row.ranks, strict=True):
            values["ranks"][key, tuple(sorted(row.responses)), text][row.annotator_id] = rank
    shared = {kind: [list(unit.values()) for unit in units.values() if len(unit) > 1] for kind, units in values.items()}
    return {kind: {"alpha": ordinal_alpha(units), "units": len(units)} for kind, units in shared.items()}


def _longer(rows: Sequence[Comparison]) -> dict[str, Any]:
    """How often the longer of two responses is preferred."""
    longer = list[bool]()
    for row in rows:
        texts = (row.chosen, row.rejected) if isinstance(row, PreferenceRow) else row.responses
        ranks = (1, 2) if isinstance(row, PreferenceRow) else row.ranks
        for i, j in combinations(range(len(texts)), 2):
            if ranks[i] != ranks[j] and len(texts[i]) != len(texts[j]):
                longer.append((ranks[i] < ranks[j]) == (len(texts[i]) > len(texts[j])))
    return {"longer_is_better": _share(sum(longer), len(longer))}


def _share(part: int, whole: int) -> dict[str, Any]:
    return {"share": part / whole if whole else None, "of": whole}


def _or(name: str) -> str:
    return name or "not said"
