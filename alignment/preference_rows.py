"""What people say about responses: the kinds of rows, and how one kind becomes another.

`preferences.py` reads and writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex, TypeVar, overload

from curation.errors import Problem
from curation.fingerprint import canonical_json

Prompt = str | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class PreferenceRow:
    """Of two responses to a prompt, somebody prefers `chosen`."""

    prompt: Prompt
    chosen: str
    rejected: str
    margin: float = 0.0  # how much better, in units of reward: m of −log σ(r_w − r_l − m)
    annotator_id: str = ""
    source: str = ""
    pool: str = ""  # the group the annotator belongs to
    guidelines: str = ""  # version of the text the annotator followed


@dataclass(frozen=True)
class RankedRow:
    """K responses to a prompt with their ranks: 1 is best, equal ranks are ties."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    annotator_id: str = ""
    source: str = ""
    pool: str = ""
    guidelines: str = ""


@dataclass(frozen=True)
class RatingRow:
    """One response rated 1 (worst) to 5 (best), with flags such as `toxic`, `biased`, `untrue`, `off_task`."""

    prompt: Prompt
    response: str
    rating: float
    flags: tuple[str, ...] = ()
    annotator_id: str = ""
    source: str = ""
    pool: str = ""
    guidelines: str = ""


@dataclass(frozen=True)
class JudgedRow:
    """One response that is desirable or not: what KTO learns from."""

    prompt: Prompt
    response: str
    label: bool
    annotator_id: str = ""
    source: str = ""
    pool: str = ""
    guidelines: str = ""


@dataclass(frozen=True)
class DemonstrationRow:
    """A prompt with the answer to imitate: what SFT learns from."""

    prompt: Prompt
    response: str
    source: str = ""


Comparison = PreferenceRow | RankedRow
AnyRow = PreferenceRow | RankedRow | RatingRow | JudgedRow | DemonstrationRow
R = TypeVar("R", bound=AnyRow)
R_co = TypeVar("R_co", covariant=True)


class Rows(list[R_co]):  # type: ignore[type-var]  # a list that nobody appends to
    """The rows of a file, in its order, with what became of every line.

    `fates`: kept, skipped_bad_line, skipped_tie, skipped_equal_responses → how many. `problems`: one a bad line.
    """

    def __init__(self, rows: Iterable[R_co], fates: Mapping[str, int], problems: Sequence[Problem]) -> None:
        super().__init__(rows)
        self.fates = dict(fates)
        self.problems = tuple(problems)

    @overload
    def __getitem__(self, place: SupportsIndex) -> R_co: ...
    @overload
    def __getitem__(self, place: slice) -> Rows[R_co]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> R_co | Rows[R_co]:
        """A row; or a part of the rows, `kept` counting those in it: what was skipped stays known."""
        if not isinstance(place, slice):
            return super().__getitem__(place)
        part = super().__getitem__(place)
        fates = {**self.fates, "kept": len(part)} if "kept" in self.fates else self.fates
        return Rows(part, fates, self.problems)


def pairs_from_ranked(rows: Iterable[RankedRow]) -> list[PreferenceRow]:
    """All C(K, 2) pairs of each list, best first; ties and equal responses give none (Ouyang 2022, §3.5)."""
    found = []
    for row in rows:
        order = sorted(range(len(row.ranks)), key=lambda k: row.ranks[k])
        for at, i in enumerate(order):
            for j in order[at + 1 :]:
                if row.ranks[i] < row.ranks[j] and row.responses[i] != row.responses[j]:
                    found.append(PreferenceRow(row.prompt, row.responses[i], row.responses[j], 0.0, **_whose(row)))
    return found


FLAG_COST = 5.0  # one more than the widest difference of two ratings, 4: a flag weighs more than any rating


def rating_score(row: RatingRow) -> float:
    """The rating less `FLAG_COST` for each flag: fewer flags first, then the higher rating."""
    return row.rating - FLAG_COST * len(row.flags)


def ranked_from_ratings(rows: Iterable[RatingRow]) -> list[RankedRow]:
    """One list for every prompt and annotator with at least two different scores, in order of first appearance.

    Ratings of different annotators are never compared: one person's 3 is another's 4. Order within a list is by
    `rating_score`; equal scores are ties. A response rated twice keeps its last rating.
    """
    groups: dict[str, dict[str, RatingRow]] = {}
    for row in rows:
        whose = [plain_prompt(row.prompt), row.annotator_id, row.pool, row.guidelines, row.source]
        groups.setdefault(canonical_json(whose), {})[row.response] = row
    found = []
    for group in groups.values():
        members = list(group.values())
        levels = sorted({rating_score(row) for row in members}, reverse=True)
        if len(levels) < 2:
            continue
        ranks = tuple(1 + sum(rating_score(other) > rating_score(row) for other in members) for row in members)
        found.append(RankedRow(members[0].prompt, tuple(group), ranks, **_whose(members[0])))
    return found


def pairs_from_ratings(rows: Sequence[RatingRow]) -> list[PreferenceRow]:
    """`ranked_from_ratings`, then all pairs of each list."""
    return pairs_from_ranked(ranked_from_ratings(rows))


def judged_from_pairs(rows: Iterable[PreferenceRow]) -> list[JudgedRow]:
    """Two judgements a pair: the chosen response is desirable, the rejected one is not."""
    return [
        JudgedRow(row.prompt, response, label, **_whose(row))
        for row in rows
        for response, label in ((row.chosen, True), (row.rejected, False))
    ]


def _whose(row: PreferenceRow | RankedRow | RatingRow) -> dict[str, str]:
    return {
        "annotator_id": row.annotator_id,
        "source": row.source,
        "pool": row.pool,
        "guidelines": row.guidelines,
    }


def rows_sha256(rows: Iterable[AnyRow]) -> str:
    """sha256 over kind and fields of every row, in order; the file they stood in does not matter."""
    digest = hashlib.sha256()
    for row in rows:
        values = {name: value if name != "prompt" else plain_prompt(row.prompt) for name, value in vars(row).items()}
        digest.update(canonical_json([type(row).__name__, values]).encode() + b"\n")
    return digest.hexdigest()


def plain_prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as JSON has it."""
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
