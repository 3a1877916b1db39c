"""Which documents of a run to show: found by verdict, reason or disagreement, and a sample that is always the same.

Called by `inspect` and by the report. A case is a document under one arm; the sample is the documents of the smallest
hash of their id, so it depends neither on shards nor on order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.document import VERDICTS
from curation.errors import ConfigError, unknown_name
from curation.finished_run import I8, I64, KEEP, REDACT, Bools, FinishedRun, lowest_hashes, part, verdict_codes
from curation.seeding import unit_hash

# Filters that speak against what a text says, not against how it is written or that it is a copy.
TELLING = frozenset({"blocklist", "toxicity", "sentence", "context"})


Places = Mapping[int, Sequence[int]]  # shard → row groups of documents/


@dataclass(frozen=True)
class Wanted:
    """What to look for; everything given must hold."""

    verdict: str | None = None  # None: anything but keep
    reason: str | None = None  # a code, or a filter's name for all its codes
    kept_though_flagged: bool = False


@dataclass
class Case:
    """One document under one arm."""

    arm: str
    shard: int
    row: int
    doc_id: str
    verdict: str
    reasons: list[dict[str, Any]]
    mentions: list[dict[str, Any]] = field(default_factory=list)
    elsewhere: dict[str, list[str]] = field(default_factory=dict)  # other arm → reason codes that removed it there
    text: str = ""
    source: str = ""
    url: str | None = None
    carried: str | None = None  # the text as the arm has it, when redacted


def reason_codes(run: FinishedRun, arm: str, given: str) -> frozenset[str]:
    """The codes that `given` names in an arm: itself, or all codes of a filter.

    Raises:
        ConfigError: the arm has no such reason; lists those it has.
    """
    known = sorted(run.manifest["arms"][arm]["removed_by"])
    chosen = frozenset(code for code in known if code == given or code.startswith(f"{given}."))
    if not chosen:
        raise ConfigError(unknown_name("reason", given, known, f"arm `{arm}`"))
    return chosen


def find_cases(
    run: FinishedRun, arm: str, wanted: Wanted, count: int, places: Places | None = None
) -> tuple[list[Case], int]:
    """Up to `count` cases with their texts, and how many there are in all.

    Args:
        places: look only there; None: everywhere.
    """
    codes = reason_codes(run, arm, wanted.reason) if wanted.reason else None
    best: list[Case] = []
    total = 0
    for shard, groups in (dict.fromkeys(range(run.shards)) if places is None else places).items():
        table = run.decisions(arm, shard, ["doc_id", "verdict", "reasons"], groups)
        verdicts = verdict_codes(table["verdict"])
        mask = _verdict_mask(run, arm, (shard, groups), wanted, verdicts, table["reasons"])
        if codes is not None:
            mask &= rows_with_codes(table["reasons"], codes)
        rows = np.flatnonzero(mask)
        total += len(rows)
        best += _lowest(run, arm, (shard, groups), table, rows, count)
        best = [best[position] for position in lowest_hashes([case.doc_id for case in best], count)]
    _fill(run, best)
    return best, total


def _lowest(
    run: FinishedRun, arm: str, place: tuple[int, Sequence[int] | None], table: pa.Table, rows: I64, count: int
) -> list[Case]:
    """The cases of the smallest hashes among some rows of a decisions table."""
    shard, groups = place
    numbers = run.rows_in(shard, groups)
    ids = table["doc_id"].take(pa.array(rows)).to_pylist()
    cases = []
    for position in lowest_hashes(ids, count):
        at = int(rows[position])
        verdict, reasons = table["verdict"][at].as_py(), table["reasons"][at].as_py()
        cases.append(Case(arm, shard, int(numbers[at]), ids[position], verdict, reasons))
    return cases


def _verdict_mask(
    run: FinishedRun,
    arm: str,
    place: tuple[int, Sequence[int] | None],
    wanted: Wanted,
    verdicts: I8,
    reasons: pa.ChunkedArray,
) -> Bools:
    shard, groups = place
    if wanted.kept_though_flagged:
        flagged = np.asarray(pc.list_value_length(reasons).to_numpy()) > 0
        mentions = run.decisions(arm, shard, ["mentions"], groups)["mentions"]
        flagged |= np.asarray(pc.list_value_length(mentions).to_numpy()) > 0
        for other in flagging_arms(run, arm):
            theirs = run.decisions(other, shard, ["verdict", "reasons"], groups)
            speaks = rows_with_codes(theirs["reasons"], _told(run, other))
            flagged |= (verdict_codes(theirs["verdict"]) != KEEP) & speaks
        return np.asarray((verdicts == KEEP) & flagged, bool)
    if wanted.verdict is not None:
        return np.asarray(verdicts == VERDICTS.index(wanted.verdict), bool)
    return np.asarray(verdicts != KEEP, bool)


def flagging_arms(run: FinishedRun, arm: str) -> list[str]:
    """Other arms with a rule that speaks against what texts say."""
    return [other for other in run.arms if other != arm and _told(run, other)]


def _told(run: FinishedRun, arm: str) -> frozenset[str]:
    """The reason codes of an arm that speak against what a text says."""
    rules = run.manifest["arms"][arm]["ruleset"]["rules"]
    prefixes = tuple(f"{rule['as']}." for rule in rules if rule["filter"] in TELLING)
    return frozenset(c for c in run.manifest["arms"][arm]["removed_by"] if prefixes and c.startswith(prefixes))


def rows_with_codes(reasons: pa.ChunkedArray, codes: frozenset[str]) -> Bools:
    """Which rows of a reasons column have a reason of one of `codes`."""
    mask = np.zeros(len(reasons), bool)
    first = 0
    for chunk in reasons.chunks:
        hit = pc.is_in(pc.struct_field(chunk.flatten(), "code"), value_set=pa.array(sorted(codes), pa.string()))
        owners = np.repeat(np.arange(len(chunk)), np.asarray(chunk.value_lengths(), np.int64))
        mask[first + owners[np.asarray(hit.to_numpy(zero_copy_only=False), bool)]] = True
        first += len(chunk)
    return mask


def _fill(run: FinishedRun, cases: Sequence[Case]) -> None:
    """Texts, mentions, what other arms did, and redacted texts, read shard by shard."""
    for shard in sorted({case.shard for case in cases}):
        here = [case for case in cases if case.shard == shard]
        rows = [case.row for case in here]
        for case, found in zip(here, run.documents_at(shard, rows, ["text", "source", "url"]), strict=True):
            case.text, case.source, case.url = found["text"], found["source"], found["url"]
        for arm in sorted({case.arm for case in here}):
            mine = [case for case in here if case.arm == arm]
            decided = run.decisions_at(arm, shard, [case.row for case in mine], ["mentions"])
            for case, row in zip(mine, decided, strict=True):
                case.mentions = row["mentions"]
            _fill_carried(run, arm, shard, mine)
            for other in flagging_arms(run, arm):
                _fill_elsewhere(run, other, shard, mine)


def _fill_elsewhere(run: FinishedRun, other: str, shard: int, cases: Sequence[Case]) -> None:
    told = _told(run, other)
    theirs = run.decisions_at(other, shard, [case.row for case in cases], ["verdict", "reasons"])
    for case, row in zip(cases, theirs, strict=True):
        codes = [reason["code"] for reason in row["reasons"] if reason["code"] in told]
        if codes and row["verdict"] != "keep":
            case.elsewhere[other] = list(dict.fromkeys(codes))


def _fill_carried(run: FinishedRun, arm: str, shard: int, cases: Sequence[Case]) -> None:
    redacted = [case for case in cases if case.verdict == "redact"]
    if not redacted:
        return
    verdicts = verdict_codes(run.decisions(arm, shard, ["verdict"])["verdict"])
    rank = np.cumsum((verdicts == KEEP) | (verdicts == REDACT)) - 1
    rows = [int(rank[case.row]) for case in redacted]
    for case, found in zip(redacted, run.rows_of(part(f"arms/{arm}", shard), rows, ["text"]), strict=True):
        case.carried = found["text"]


def sample_by_code(run: FinishedRun, arm: str, per_code: int, places: Places) -> dict[str, list[Case]]:
    """Reason code → up to `per_code` documents that it removed or redacted in an arm, by smallest hash of the id."""
    found: dict[str, list[Case]] = {}
    for shard, groups in places.items():
        table = run.decisions(arm, shard, ["doc_id", "verdict", "reasons"], groups)
        numbers = run.rows_in(shard, groups)
        gone = np.flatnonzero(verdict_codes(table["verdict"]) != KEEP)
        removed = table.take(pa.array(gone)).combine_chunks()
        ids = removed["doc_id"].to_pylist()
        hashes = np.array([unit_hash(doc_id, 0) for doc_id in ids])
        for code, rows in _rows_by_code(removed["reasons"]).items():
            for row in rows[np.argsort(hashes[rows], kind="stable")[:per_code]].tolist():
                verdict, reasons = removed["verdict"][row].as_py(), removed["reasons"][row].as_py()
                case = Case(arm, shard, int(numbers[gone[row]]), ids[row], verdict, reasons)
                found.setdefault(code, []).append(case)
    for code, cases in found.items():
        found[code] = [cases[i] for i in lowest_hashes([case.doc_id for case in cases], per_code)]
    _fill(run, [case for cases in found.values() for case in cases])
    return dict(sorted(found.items()))


def _rows_by_code(reasons: pa.ChunkedArray) -> dict[str, I64]:
    """Reason code → rows that have it."""
    lists = pa.concat_arrays(reasons.chunks) if reasons.num_chunks else pa.array([], reasons.type)
    codes = pc.struct_field(lists.flatten(), "code").dictionary_encode()
    owners = np.repeat(np.arange(len(lists)), np.asarray(lists.value_lengths(), np.int64))
    numbers = codes.indices.to_numpy()
    return {name: np.unique(owners[numbers == code]) for code, name in enumerate(codes.dictionary.to_pylist())}
