"""What annotators are asked: a prompt with 2 to 9 responses, and in which order one of them sees these."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from alignment.preference_rows import Prompt, plain_prompt
from curation.errors import ConfigError, DataContractError, Problem, RecordError
from curation.fingerprint import canonical_json
from curation.seeding import derive_seed, unit_hash

LETTERS = "ABCDEFGHI"  # names of the places on the page; 9 responses at most, as in Ouyang 2022, §3.5 (K = 4 to 9)
KEYS = {"id", "prompt", "responses", "models", "source", "overlap"}


@dataclass(frozen=True)
class Item:
    """One question. `models` names where the responses come from; no page shows it."""

    id: str
    prompt: Prompt
    responses: tuple[str, ...]
    models: tuple[str, ...] = ()
    source: str = ""
    overlap: bool | None = None  # everybody answers it; None: drawn by `--overlap`

    @property
    def kind(self) -> str:
        """`pair` for two responses, `rank` for more."""
        return "pair" if len(self.responses) == 2 else "rank"

    def order_for(self, annotator: str) -> list[int]:
        """Indices of the responses, first shown first. The same person sees the same order every time."""
        seed = derive_seed(0, "feedback", "order", annotator)
        return sorted(range(len(self.responses)), key=lambda k: unit_hash(f"{self.id}\n{k}", seed))


def items_for(annotator: str, items: Iterable[str]) -> list[str]:
    """Ids of the items in the order in which an annotator meets them."""
    seed = derive_seed(0, "feedback", "items", annotator)
    return sorted(items, key=lambda name: unit_hash(name, seed))


def item_of(raw: Mapping[str, Any]) -> Item:
    """An item from one object; without `id` it is named by its content.

    Raises:
        RecordError: a field is missing, unknown or of another type.
    """
    for name in raw:
        if name not in KEYS:
            raise _bad(name, raw[name], f"one of the fields {', '.join(sorted(KEYS))}")
    prompt, responses = raw.get("prompt"), raw.get("responses")
    if not (isinstance(prompt, str) or _is_dialogue(prompt)):
        raise _bad("prompt", prompt, "a text or a list of messages with `role` and `content`")
    if not _are_texts(responses) or not 2 <= len(responses) <= len(LETTERS):
        raise _bad("responses", responses, "a list of 2 to 9 texts")
    models = raw.get("models", [])
    if not _are_texts(models) or len(models) not in (0, len(responses)):
        raise _bad("models", models, f"{len(responses)} names, or none")
    overlap, source = raw.get("overlap"), raw.get("source", "")
    if overlap is not None and not isinstance(overlap, bool):
        raise _bad("overlap", overlap, "true or false")
    if not isinstance(source, str):
        raise _bad("source", source, "a text")
    name = raw.get("id") or hashlib.sha256(canonical_json([plain_prompt(prompt), responses]).encode()).hexdigest()[:16]
    if not isinstance(name, str) or "\0" in name:  # a database keeps no NUL
        raise _bad("id", name, "a text")
    return Item(name, prompt, tuple(responses), tuple(models), source, overlap)


def read_items(path: Path) -> list[Item]:
    """Items of a JSONL file. A bad line is named on stderr and costs no other.

    Raises:
        ConfigError: there is no such file.
        DataContractError: not one item is left, or two items of one id differ.
    """
    if not path.is_file():
        raise ConfigError(Problem("no-file", "there is no such file", str(path)))
    found: dict[str, Item] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            json.dumps(raw, ensure_ascii=False).encode()  # half a surrogate pair is JSON, and no text
            if not isinstance(raw, dict):
                raise _bad("line", raw, "an object")
            item = item_of(raw)
        except (ValueError, RecordError) as error:
            reason = (
                error.problems[0]
                if isinstance(error, RecordError)
                else Problem("bad-item", f"not a JSON text: {error}")
            )
            print(Problem(reason.code, reason.message, f"{path}:{number}", reason.expected), file=sys.stderr)
            continue
        if found.setdefault(item.id, item) != item:
            raise DataContractError(Problem("other-item", f"two items are named `{item.id}`", f"{path}:{number}"))
    if not found:
        raise DataContractError(Problem("no-rows", "not one item can be read", str(path)))
    return list(found.values())


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_dialogue(value: object) -> TypeGuard[list[dict[str, str]]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
            for turn in value
        )
    )


def _bad(name: str, value: object, expected: str) -> RecordError:
    shown = repr(value)
    return RecordError(Problem("bad-item", f"`{name}` is {shown[:80]}", expected=expected))
