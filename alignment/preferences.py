"""What people say about responses, as rows: pairs, ranked lists, ratings, single judgements, demonstrations.

In: JSONL files (plain, .gz, .zst) in TRL's formats or ours; out: the same. Each kind is a frozen dataclass; a prompt is
a text or a list of messages. A bad line is reported with its file and number, counted, and costs no other line.

    kind               fields TRL reads too         also read
    PreferenceRow      prompt, chosen, rejected     tie: true (skipped); without a prompt it is the common beginning
    RankedRow          –                            prompt, responses, ranks (1 is best; without them: best first)
    RatingRow          –                            prompt, response, rating (1–5), flags
    JudgedRow          prompt, completion, label    response for completion
    DemonstrationRow   prompt, completion           response for completion; messages: a row for each assistant turn

`chosen`, `rejected` and `completion` may be texts or lists of one assistant message (TRL's conversational form).
"""

from __future__ import annotations

import gzip
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import zstandard

from alignment.preference_rows import (
    AnyRow,
    Comparison,
    DemonstrationRow,
    JudgedRow,
    PreferenceRow,
    Prompt,
    R,
    RankedRow,
    RatingRow,
    Rows,
    judged_from_pairs,
    pairs_from_ranked,
    pairs_from_ratings,
    plain_prompt,
    ranked_from_ratings,
    rating_score,
    rows_sha256,
)
from curation.errors import DataContractError, Problem, RecordError, StageError
from curation.sources.base import LocalFiles
from curation.sources.streams import BrokenStreamError, blocks

# fmt: off
__all__ = [
    "AnyRow", "Comparison", "DemonstrationRow", "JudgedRow", "PreferenceRow", "Prompt", "RankedRow",
    "RatingRow", "Rows", "judged_from_pairs", "pairs_from_ranked", "pairs_from_ratings", "ranked_from_ratings",
    "rating_score", "read_comparisons", "read_demonstrations", "read_judged", "read_preferences", "read_ranked",
    "read_ratings", "rows_sha256", "write_rows",
]
# fmt: on
LABELS = ("annotator_id", "source", "pool", "guidelines")
REPORTED = 20  # bad lines named on stderr for one file; all are counted and kept in `Rows.problems`


class SkippedError(Exception):
    """A line that is well-formed but says nothing; the text is the fate it is counted under."""


def read_preferences(*paths: Path | str) -> Rows[PreferenceRow]:
    """Preference pairs of JSONL files, TRL's preference format in both its forms.

    Raises:
        StageError: a file is missing.
        DataContractError: a file is damaged, or not one row is left.
    """
    return _read(paths, lambda raw: [preference_of(raw)])


def read_ranked(*paths: Path | str) -> Rows[RankedRow]:
    """Ranked lists. Raises as `read_preferences`."""
    return _read(paths, lambda raw: [ranked_of(raw)])


def read_ratings(*paths: Path | str) -> Rows[RatingRow]:
    """Ratings with flags. Raises as `read_preferences`."""
    return _read(paths, lambda raw: [rating_of(raw)])


def read_judged(*paths: Path | str) -> Rows[JudgedRow]:
    """Single judgements, TRL's unpaired preference format. Raises as `read_preferences`."""
    return _read(paths, lambda raw: [judged_of(raw)])


def read_demonstrations(*paths: Path | str) -> Rows[DemonstrationRow]:
    """Prompts with answers; a dialogue in `messages` gives a row for each assistant turn, what stands before it being
    the prompt. Raises as `read_preferences`."""
    return _read(paths, demonstrations_of)


def read_comparisons(*paths: Path | str) -> Rows[Comparison]:
    """What a reward model learns from: pairs and ranked lists, line by line whichever it is; ratings of one prompt by
    one annotator become one ranked list (`ranked_from_ratings`). Raises as `read_preferences`."""

    def parse(raw: Mapping[str, Any]) -> list[PreferenceRow | RankedRow | RatingRow]:
        if "responses" in raw:
            return [ranked_of(raw)]
        return [rating_of(raw) if "rating" in raw else preference_of(raw)]

    rows = _read(paths, parse)
    ratings = [row for row in rows if isinstance(row, RatingRow)]
    compared: list[Comparison] = [row for row in rows if not isinstance(row, RatingRow)]
    compared += ranked_from_ratings(ratings)
    if not compared:
        raise DataContractError(Problem("no-rows", "no two ratings of one prompt differ", _names(paths)))
    return Rows(compared, rows.fates, rows.problems)


# One line → a row


def preference_of(raw: Mapping[str, Any]) -> PreferenceRow:
    """A pair from one object.

    Raises:
        RecordError: something is missing or of another type.
        SkippedError: `tie` is true, or both responses are the same.
    """
    if raw.get("tie") is True:
        raise SkippedError("skipped_tie")
    if "prompt" in raw:
        prompt = _prompt(raw["prompt"])
        chosen, rejected = _answer(raw, "chosen"), _answer(raw, "rejected")
    else:
        prompt, chosen, rejected = _common_prompt(raw.get("chosen"), raw.get("rejected"))
    if chosen == rejected:
        raise SkippedError("skipped_equal_responses")
    margin = raw.get("margin")
    if margin is not None and not _is_number(margin):
        raise _bad("margin", margin, "a number")
    return PreferenceRow(prompt, chosen, rejected, float(margin or 0.0), **_labels(raw))


def ranked_of(raw: Mapping[str, Any]) -> RankedRow:
    """A ranked list from one object. Raises as `preference_of`: a list in which all are tied or equal is skipped."""
    prompt = _prompt(raw.get("prompt"))
    responses = raw.get("responses")
    if not isinstance(responses, list) or len(responses) < 2 or not all(isinstance(text, str) for text in responses):
        raise _bad("responses", responses, "a list of at least two texts")
    ranks = raw.get("ranks", list(range(1, len(responses) + 1)))
    if (
        not isinstance(ranks, list)
        or len(ranks) != len(responses)
        or not all(isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1 for rank in ranks)
    ):
        raise _bad("ranks", ranks, f"{len(responses)} whole numbers from 1")
    if len(set(ranks)) == 1:
        raise SkippedError("skipped_tie")
    if len(set(responses)) == 1:
        raise SkippedError("skipped_equal_responses")
    return RankedRow(prompt, tuple(responses), tuple(ranks), **_labels(raw))


def rating_of(raw: Mapping[str, Any]) -> RatingRow:
    """A rating from one object. Raises as `preference_of`."""
    rating, flags = raw.get("rating"), raw.get("flags", [])
    if not _is_number(rating) or not 1 <= rating <= 5:
        raise _bad("rating", rating, "a number from 1 to 5")
    if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
        raise _bad("flags", flags, "a list of names")
    named = tuple(dict.fromkeys(flags))
    return RatingRow(_prompt(raw.get("prompt")), _completion(raw), float(rating), named, **_labels(raw))


def judged_of(raw: Mapping[str, Any]) -> JudgedRow:
    """A judgement from one object. Raises as `preference_of`."""
    label = raw.get("label")
    if not isinstance(label, bool):
        raise _bad("label", label, "true or false")
    return JudgedRow(_prompt(raw.get("prompt")), _completion(raw), label, **_labels(raw))


def demonstrations_of(raw: Mapping[str, Any]) -> list[DemonstrationRow]:
    """The demonstrations of one object. Raises as `preference_of`."""
    source = _text(raw.get("source", ""), "source")
    if "messages" not in raw:
        return [DemonstrationRow(_prompt(raw.get("prompt")), _completion(raw), source)]
    messages = _messages(raw["messages"], "messages")
    found = [
        DemonstrationRow(messages[:at], message["content"], source)
        for at, message in enumerate(messages)
        if at > 0 and message["role"] == "assistant"
    ]
    if not found:
        raise _bad("messages", f"{len(messages)} messages", "an assistant message after the first one")
    return found


# Out


def as_record(row: AnyRow, conversational: bool | None = None) -> dict[str, Any]:
    """A row as the JSON object that reads back as it, in TRL's fields where TRL has them.

    Args:
        conversational: prompts and responses as messages (True), or as they are (None). A file for
            `datasets.load_dataset` must not mix both.
    """
    record: dict[str, Any] = {name: value for name, value in asdict(row).items() if value or name not in LABELS}
    if isinstance(row, JudgedRow | DemonstrationRow):
        record["completion"] = record.pop("response", "")
    if isinstance(row, RankedRow):
        record |= {"responses": list(row.responses), "ranks": list(row.ranks)}
    if isinstance(row, RatingRow):
        record["flags"] = list(row.flags)
    record["prompt"] = plain_prompt(row.prompt)
    if conversational or (conversational is None and not isinstance(row.prompt, str)):
        from alignment.rows import turns  # torch comes with it

        record["prompt"] = turns(row.prompt)
        for name in ("chosen", "rejected", "completion"):
            if name in record:
                record[name] = [{"role": "assistant", "content": record[name]}]
    return record


def write_rows(path: Path, rows: Iterable[AnyRow], conversational: bool | None = None) -> str:
    """Write rows as JSONL, compressed by the suffix, whole or not at all.

    Returns:
        `rows_sha256` of the rows.

    Raises:
        StageError: the disk is full or cannot be written.
    """
    kept = list(rows)
    data = "".join(
        json.dumps(as_record(row, conversational), ensure_ascii=False, sort_keys=True) + "\n" for row in kept
    ).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # no clock in the bytes
    elif path.suffix == ".zst":
        data = zstandard.ZstdCompressor(level=10).compress(data)
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise StageError(Problem("not-written", f"cannot write: {error}", str(path))) from None
    return rows_sha256(kept)


# Reading, piece by piece


@dataclass
class _Tally:
    fates: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def bad(self, problem: Problem) -> None:
        self.fates["skipped_bad_line"] += 1
        self.problems.append(problem)
        if len(self.problems) <= REPORTED:
            print(problem, file=sys.stderr)


def _read(paths: Sequence[Path | str], parse: Callable[[Mapping[str, Any]], Sequence[R]]) -> Rows[R]:
    tally, rows = _Tally(), list[R]()
    for path in map(Path, paths):
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                found = parse(_object(line))
            except SkippedError as skipped:
                tally.fates[str(skipped)] += 1
            except RecordError as error:
                problem = error.problems[0]
                tally.bad(Problem(problem.code, problem.message, where, problem.expected))
            else:
                rows += found
                tally.fates["kept"] += len(found)
    if len(tally.problems) > REPORTED:
        print(f"… and {len(tally.problems) - REPORTED} more bad lines", file=sys.stderr)
    if not rows:
        said = ", ".join(f"{name} {count}" for name, count in sorted(tally.fates.items())) or "the file is empty"
        raise DataContractError(Problem("no-rows", f"not one row is left: {said}", _names(paths)), *tally.problems[:3])
    return Rows(rows, dict(sorted(tally.fates.items())), tally.problems)


def _names(paths: Sequence[Path | str]) -> str:
    return ", ".join(map(str, paths))


def _lines(path: Path) -> Iterator[bytes]:
    carry = b""
    try:
        for block in blocks(str(path), LocalFiles()):
            *whole, carry = (carry + block).split(b"\n")
            yield from whole
    except BrokenStreamError as error:
        # Half a set of preferences would be another set: the file is refused, not its end.
        raise DataContractError(Problem("unreadable", error.problems[0].message, str(path))) from None
    if carry:
        yield carry


def _object(line: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(line.decode("utf-8-sig"))
        if b"\\ud" in line.lower():
            json.dumps(raw, ensure_ascii=False).encode()  # a lone surrogate can be neither written nor hashed
    except (ValueError, RecursionError) as error:
        raise RecordError(Problem("bad-line", f"not JSON in UTF-8: {error}")) from None
    if not isinstance(raw, dict):
        raise RecordError(Problem("bad-line", "not a JSON object"))
    return raw


def _bad(name: str, value: object, expected: str) -> RecordError:
    shown = "is missing" if value is None else f"is {str(value)[:60]!r}"
    return RecordError(Problem("bad-row", f"`{name}` {shown}", expected=expected))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _bad(name, value, "a text")
    return value


def _labels(raw: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(raw[name], name) if raw.get(name) is not None else "" for name in LABELS}


def _messages(value: Any, name: str) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise _bad(name, value, "a list of messages")
    for message in value:
        good = isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not good:
            raise _bad(name, message, "messages with `role` and `content`, both texts")
    return tuple({"role": message["role"], "content": message["content"]} for message in value)


def _prompt(value: Any) -> Prompt:
    if isinstance(value, str):
        return value
    if value is None:
        raise _bad("prompt", value, "a text or a list of messages")
    return _messages(value, "prompt")


def _answer(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    if isinstance(value, str):
        return value
    if value is None:
        raise _bad(name, value, "a text or one assistant message")
    messages = _messages(value, name)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise _bad(name, f"{len(messages)} messages", "one assistant message after the prompt")
    return messages[0]["content"]


def _completion(raw: Mapping[str, Any]) -> str:
    return _answer(raw, "completion" if "completion" in raw else "response")


def _common_prompt(chosen: Any, rejected: Any) -> tuple[Prompt, str, str]:
    """TRL's implicit prompt: what both dialogues begin with.

    Of texts in Anthropic HH's form it ends after the last common "Assistant:"; of others after the last word that both
    share. TRL's `extract_prompt` goes to the first character that differs, inside a word if need be.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        common = _beginning(chosen, rejected)
        turn = common.rfind("\n\nAssistant:")
        end = turn + len("\n\nAssistant:") if turn >= 0 else max(common.rfind(" "), 0)
        return chosen[:end], chosen[end:], rejected[end:]
    first, second = _messages(chosen, "chosen"), _messages(rejected, "rejected")
    if len(first) < 2 or first[:-1] != second[:-1] or {first[-1]["role"], second[-1]["role"]} != {"assistant"}:
        raise _bad("chosen", f"{len(first)} messages", "a dialogue that differs from `rejected` in its last answer")
    return first[:-1], first[-1]["content"], second[-1]["content"]


def _beginning(one: str, other: str) -> str:
    same = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:same]
