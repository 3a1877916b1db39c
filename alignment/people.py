"""Rounds that wait for people: what they are asked, where their answers are found, and how a run says that it waits.

    ROUND/people.jsonl              what this round asks: items of `headwater feedback`, a line each
    RUN/people/items.jsonl          what all rounds that wait ask: one file for `headwater feedback serve --items`
    RUN/people/answers/             where `headwater feedback export --out` puts the answers

One store may hold the items of many rounds and arms: a round takes the answers to its own items and leaves the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from alignment.direct import prompt_key
from alignment.feedback.items import LETTERS, item_of, read_items
from alignment.json_rows import read_rows, write_text
from alignment.preference_rows import Comparison, Prompt, plain_prompt
from alignment.preferences import SkippedError, preference_of, ranked_of
from curation.errors import Problem, StageError
from curation.settings import Settings

ITEMS, ANSWERS = "items.jsonl", "answers"
SOURCE = "policy"  # of every item: rows that people gave on answers of the policy
MOST_RESPONSES = len(LETTERS)
Key = tuple[str, tuple[str, ...]]
Question = tuple[Prompt, Sequence[str]]  # a prompt and different responses to it


class PeopleSettings(Settings):
    """How many answers a round waits for."""

    least_answered: float = Field(
        default=1.0, gt=0, le=1, description="share of a round's items with at least one answer before it goes on"
    )


class WaitingForPeopleError(StageError):
    """Responses were sampled and people have not ranked enough of them. Run the same command again when they have."""


class People:
    """The annotators of a round, when these are people."""

    def __init__(self, settings: PeopleSettings, folder: Path) -> None:
        """`folder` is the run's own: RUN/people."""
        self.settings = settings
        self.folder = folder

    def rows(self, asked: Path) -> list[Comparison]:
        """The answers to the items of a file, in the order of the items: ranked lists, and pairs where an item has two
        responses. An item that several people answered gives several rows.

        Raises:
            WaitingForPeopleError: fewer than `least_answered` of the items have an answer.
            DataContractError: a file of the export is damaged.
        """
        items = read_items(asked)
        found = _answers(self.folder / ANSWERS)
        answered = [found.get(_key(item.prompt, item.responses)) for item in items]
        done = sum(rows is not None for rows in answered)
        if done < self.settings.least_answered * len(items):
            raise WaitingForPeopleError(self._problem(asked, done, len(items)))
        return [row for rows in answered for row in rows or ()]

    def files(self) -> list[Path]:
        """Where the answers lie."""
        return [self.folder / ANSWERS / name for name in ("ranked.jsonl", "pairs.jsonl")]

    def _problem(self, asked: Path, done: int, items: int) -> Problem:
        wanted = f"answers to {self.settings.least_answered:.0%} of them in {self.folder / ANSWERS}"
        hint = (
            f"headwater feedback serve STORE --items {self.folder / ITEMS} --guidelines TEXT --invite POOL=N;"
            f" then headwater feedback export STORE --out {self.folder / ANSWERS}; then run this command again"
        )
        message = f"people have answered {done} of {items} items that were sampled; the run waits for them"
        return Problem("waiting-for-people", message, str(asked), wanted, hint)


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write what a round asks as items, each named by its content.

    Raises:
        StageError: the disk is full or cannot be written.
    """
    lines: dict[str, str] = {}
    for prompt, responses in questions:
        raw = {"prompt": plain_prompt(prompt), "responses": list(responses), "source": SOURCE}
        item = item_of(raw)
        lines[item.id] = json.dumps({"id": item.id, **raw}, ensure_ascii=False, sort_keys=True) + "\n"
    _write(path, "".join(lines.values()))


def gather(waiting: Sequence[Problem], folder: Path) -> WaitingForPeopleError:
    """Write the items of all rounds that wait into one file of the run; returns what is to be raised."""
    lines: dict[str, None] = {}
    for problem in waiting:
        lines |= dict.fromkeys(Path(str(problem.where)).read_text(encoding="utf-8").splitlines(keepends=True))
    _write(folder / ITEMS, "".join(lines))
    return WaitingForPeopleError(*waiting)


def _answers(folder: Path) -> dict[Key, list[Comparison]]:
    """Rows of an export by prompt and responses, none where people called all responses alike. The pairs that an export
    makes of lists have keys that no item has."""
    found: dict[Key, list[Comparison]] = {}
    for name, fields, row_of in (
        ("ranked.jsonl", ("responses",), ranked_of),
        ("pairs.jsonl", ("chosen", "rejected"), preference_of),
    ):
        for raw in read_rows(folder / name, ("prompt", *fields)) if (folder / name).is_file() else ():
            shown = raw["responses"] if "responses" in raw else [raw["chosen"], raw["rejected"]]
            group = found.setdefault(_key(raw["prompt"], shown), [])
            with suppress(SkippedError):
                group.append(row_of(raw))
    return {key: sorted(group, key=lambda row: row.annotator_id) for key, group in found.items()}


def _key(prompt: Prompt, responses: Sequence[str]) -> Key:
    """The same for an item and an answer to it: a pair's row has its responses in the order of preference."""
    return prompt_key(prompt), tuple(sorted(responses))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise StageError(Problem("not-written", f"cannot write: {error}", str(path))) from None
