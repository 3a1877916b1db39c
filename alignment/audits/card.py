"""The audit card: what was measured, of which weights, on which data, with which settings.

`card.json` names the sha256 of model, tokenizer, rows, candidates and words, and ends in `seal`, the sha256 of all
else in it. A changed number breaks the seal; changed weights or rows break their own hash. The seal is no signature of
a person: whoever can write the card can seal it anew, so keep the seal elsewhere where that matters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import curation
from alignment.audits.job import AuditSettings, load_inputs, measured
from alignment.audits.page import page
from alignment.json_rows import write_text
from alignment.model import read_json
from curation.errors import DataContractError, Problem, StageError
from curation.fingerprint import canonical_json
from curation.settings import parse

SCHEMA_VERSION = 1
CARD, PAGE = "card.json", "card.html"


def seal(card: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of a card without its seal."""
    return hashlib.sha256(canonical_json({key: card[key] for key in card if key != "seal"}).encode()).hexdigest()


def audit_reward(job: AuditSettings) -> Path:
    """Measure, and write `card.json` and `card.html`. The same job on the same machine gives the same bytes.

    Returns:
        The path of `card.json`.

    Raises:
        StageError: a file is missing, a reward not finite, or the disk cannot be written.
        DataContractError: damaged rows or model, or rewards that do not differ within a prompt.
        ConfigError: an unfit tokenizer.
    """
    inputs = load_inputs(job)
    results = measured(job, inputs)
    card: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "headwater": curation.__version__,
        "settings": json.loads(job.model_dump_json()),
        "sha256": dict(sorted(inputs.hashes.items())),
        **results,
    }
    card["seal"] = seal(card)
    folder = Path(job.output)
    try:
        write_text(folder / CARD, json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        write_text(folder / PAGE, page(card))
    except OSError as error:
        raise StageError(Problem("not-written", f"cannot write: {error}", str(folder))) from None
    return folder / CARD


def verify_card(path: Path) -> dict[str, str]:
    """Read a card, recompute its seal, and hash model, tokenizer, rows, candidates and words anew.

    Returns:
        The hashes, all of them as on the card.

    Raises:
        DataContractError: not a card, or every hash that differs.
        StageError, ConfigError: what the card names cannot be read.
    """
    card = read_json(path)
    if not isinstance(card, dict) or not {"seal", "sha256", "settings"} <= card.keys():
        raise DataContractError(Problem("bad-card", "not an audit card", str(path), "card.json of `audit-reward`"))
    if seal(card) != card["seal"]:
        raise DataContractError(Problem("broken-seal", "the card was changed", str(path), f"seal {seal(card)}"))
    job = parse(AuditSettings, card["settings"], f"{path}: settings", "this card")
    found = dict(load_inputs(job).hashes)
    stated = card["sha256"]
    problems = [
        Problem("other-hash", f"`{name}` is {found.get(name)}", f"{path}: sha256.{name}", str(stated.get(name)))
        for name in sorted({*found, *stated})
        if found.get(name) != stated.get(name)
    ]
    if problems:
        raise DataContractError(*problems)
    return found
