"""Repeated lines across a whole run: the lines cut are those that brute force names, however the input is dealt."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from beam_jobs import line_dedup
from tests.integration.jobs import Row, copies, deal, digests, manifest_of, rows_of, run_job, words
from tests.unit.kernels.line_twin import plain_hash, plain_lines

pytestmark = pytest.mark.integration

NOTICES = [
    "All rights reserved; nothing on this page may be copied.",
    "Sign up for our letter and never miss another recipe!",
    "Straße und Ärger: диалог на чужом языке, 日本語 も 少し。",
    "This is a reader's comment and says nothing about our views.",
    "Too short to count",
]
LAX = {
    "name": "lax",
    "rules": [
        {"filter": "line_dedup", "as": "two", "action": "cut", "settings": {"keep": 2, "max_repeated_fraction": None}},
        {"filter": "line_dedup", "as": "all", "action": "keep", "settings": {"min_chars": 5}},
    ],
}
JOB: dict[str, Any] = {
    "arms": ["raw", "line_dedup", LAX],
    "reading": {"batch_documents": 17},
}  # several batches a shard


def dressed(line: str, rng: random.Random) -> str:
    """The line as another page might write it."""
    line = rng.choice([line, line.upper(), line.title(), line.replace(" ", "  "), line.replace(" ", "\u00a0", 1)])
    line = line.replace("SS", "ß").replace("Ss", "ß")  # upper case of one character is two: such lines do differ
    return rng.choice(["", "  ", "\t"]) + line + rng.choice(["", " ", "\r"])


def corpus(documents: int = 200, seed: int = 3) -> list[Row]:
    """Pages of their own text around shared notices; some twice on a page, some pages copied whole or nearly."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for number in range(documents):
        if rows and rng.random() < 0.1:
            text = rng.choice(rows)["text"]
        elif rows and rng.random() < 0.1:
            text = rng.choice(rows)["text"] + f"\nA last line of {number} that no other page has."
        else:
            own = [" ".join(words((seed, number, k), rng.randint(4, 30))) for k in range(rng.randint(0, 5))]
            lines = own + [dressed(rng.choice(NOTICES), rng) for _ in range(rng.randint(0, 3))]
            lines += rng.sample(own, k=min(len(own), rng.randint(0, 1)))
            rng.shuffle(lines)
            text = rng.choice(["\n", "\n\n", "\n \n"]).join(lines) or f"page {number}"
        rows.append({"id": f"p{number:03d}", "text": text, "source": "web"})
    return rows


def expected(run: Path, min_chars: int, keep: int) -> dict[str, list[tuple[int, int]]]:
    """doc_id → [start, end) of the lines to cut, by brute force over the normalised documents of a run."""
    copied = copies(run)
    lines = defaultdict(list)
    for row in rows_of(run, "documents"):
        text = row["text"]
        content = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        place = (row["doc_id"] in copied, (xxhash.xxh3_64_intdigest(row["doc_id"].encode()) ^ content) >> 1)
        for number, (key, start, end) in enumerate(plain_lines(text, min_chars)):
            lines[key].append((place, number, row["doc_id"], start, end))
    cut = defaultdict(list)
    for standing in lines.values():
        for *_, doc_id, start, end in sorted(standing)[keep:]:
            cut[doc_id].append((start, end))
    return {doc_id: sorted(spans) for doc_id, spans in cut.items()}


def found(run: Path, prefix: str) -> dict[str, list[tuple[int, int]]]:
    """The same out of signals/."""
    return {
        row["doc_id"]: [(span["start"], span["end"]) for span in row[f"{prefix}.spans"]]
        for row in rows_of(run, "signals")
        if row[f"{prefix}.spans"]
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Files → the run of the same documents dealt to so many files."""
    folder = tmp_path_factory.mktemp("lines")
    return {
        files: run_job([f"{deal(folder / f'in-{files}', corpus(), files)}/*.jsonl"], folder / f"out-{files}", **JOB)
        for files in (1, 3)
    }


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize(("prefix", "min_chars", "keep"), [("line_dedup", 30, 1), ("two", 30, 2), ("all", 5, 1)])
def test_the_lines_cut_are_those_of_brute_force(
    runs: dict[int, Path], files: int, prefix: str, min_chars: int, keep: int
) -> None:
    cut = expected(runs[files], min_chars, keep)

    assert found(runs[files], prefix) == cut
    assert len(cut) > 50


def test_how_the_input_is_dealt_changes_no_line(runs: dict[int, Path]) -> None:
    def decided(run: Path) -> list[Row]:
        return sorted(rows_of(run, "decisions"), key=lambda row: (row["ruleset"], row["doc_id"]))

    def carried(run: Path) -> dict[str, str]:
        return {row["doc_id"]: row["text"] for row in rows_of(run, "arms/line_dedup")}

    # Of exact copies with different ids the dedup pass keeps the same one whatever the deal.
    assert decided(runs[1]) == decided(runs[3])
    assert carried(runs[1]) == carried(runs[3])
    assert manifest_of(runs[1])["dedup"] == manifest_of(runs[3])["dedup"]


def test_signals_say_how_many_lines_and_how_much_of_the_text(runs: dict[int, Path]) -> None:
    texts = {row["doc_id"]: row["text"] for row in rows_of(runs[1], "documents")}
    for row in rows_of(runs[1], "signals"):
        spans = row["line_dedup.spans"]
        assert row["line_dedup.repeated_lines"] == len(spans)
        share = sum(span["end"] - span["start"] for span in spans) / len(texts[row["doc_id"]])
        assert row["line_dedup.repeated_fraction"] == share <= 1.0
        assert {span["label"] for span in spans} <= {"LINE"}


def test_of_every_line_one_copy_is_left_in_the_arm_and_a_short_one_stays_everywhere(runs: dict[int, Path]) -> None:
    """Unless the document that keeps it says little else, and is dropped with it."""
    run = runs[3]
    left = Counter(key for row in rows_of(run, "arms/line_dedup") for key, *_ in plain_lines(row["text"], 1))
    dropped = {
        row["doc_id"]
        for row in rows_of(run, "decisions")
        if row["ruleset"] == "line_dedup" and row["verdict"] == "drop"
    }
    cut = expected(run, 30, 1)
    before: Counter[str] = Counter()
    for row in rows_of(run, "documents"):
        if row["doc_id"] not in dropped:
            spans = cut.get(row["doc_id"], [])
            before.update(key for key, a, b in plain_lines(row["text"], 1) if not any(s <= a < e for s, e in spans))

    assert left == before
    assert max(count for key, count in left.items() if len(key) >= 30) == 1
    assert left["too short to count"] > 10


def test_every_document_is_accounted_for_and_every_verdict_occurs(runs: dict[int, Path]) -> None:
    manifest = manifest_of(runs[3])
    line = manifest["conservation"]["line_dedup"]
    codes = manifest["arms"]["line_dedup"]["removed_by"]

    assert line["read"] == 200 == sum(count for verdict, count in line.items() if verdict != "read")
    assert min(line["kept"], line["redacted"], line["dropped"]) > 10
    assert {"line_dedup.repeated_line", "line_dedup.mostly_repeated"} <= set(codes)
    assert manifest["arms"]["lax"]["removed_by"].keys() == {
        "two.repeated_line",
        "all.repeated_line",
        "all.mostly_repeated",
    } | ({"redaction.nothing_left"} & set(manifest["arms"]["lax"]["removed_by"]))


def statistics(run: Path) -> dict[str, Any]:
    """What the manifest must say of the lines, by brute force over the documents that stay."""
    copied = copies(run)
    stand = Counter(
        key
        for row in rows_of(run, "documents")
        if row["doc_id"] not in copied
        for key, *_ in plain_lines(row["text"], 5)  # the shortest line that an arm counts
    )
    often = sorted((-count, plain_hash(key)) for key, count in stand.items() if count > 1)
    return {
        "lines": stand.total(),
        "repeated": len(often),
        "further_copies": stand.total() - len(stand),
        "most_frequent": [-count for count, _ in often[: line_dedup.MOST_FREQUENT]],
    }


def test_the_manifest_counts_lines_and_says_where_the_most_frequent_stand(runs: dict[int, Path]) -> None:
    lines = manifest_of(runs[3])["dedup"]["lines"]
    wanted = statistics(runs[3])
    texts = {row["doc_id"]: row["text"] for row in rows_of(runs[3], "documents")}
    cut = expected(runs[3], 5, 1)

    assert {**lines, "most_frequent": [entry["copies"] for entry in lines["most_frequent"]]} == wanted
    for entry in lines["most_frequent"]:
        assert texts[entry["doc_id"]][entry["start"] : entry["end"]].strip()
        assert (entry["start"], entry["end"]) not in cut.get(entry["doc_id"], [])


def test_ranges_of_hashes_and_partitions_leave_no_trace(
    runs: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_dedup, "LINES_A_GROUP", 300)
    monkeypatch.setattr(line_dedup, "PARTITION_ROWS", 20)
    again = run_job([f"{deal(tmp_path / 'in-3', corpus(), 3)}/*.jsonl"], tmp_path / "out", **JOB)

    assert digests(again) == digests(runs[3])


def test_two_workers_write_the_same_bytes(runs: dict[int, Path], tmp_path: Path) -> None:
    again = run_job([f"{deal(tmp_path / 'in-3', corpus(), 3)}/*.jsonl"], tmp_path / "out", **JOB, workers=2)

    assert digests(again) == digests(runs[3])


def test_without_the_filter_no_line_is_hashed(tmp_path: Path) -> None:
    run = run_job([deal(tmp_path / "in", corpus(20), 1) / "*.jsonl"], tmp_path / "out", arms=["raw", "dedup_only"])

    assert not (run / "work/lines").exists()
    assert not (run / "work/line_verdicts").exists()
    assert "lines" not in manifest_of(run)["dedup"]


def test_texts_without_a_line_that_is_long_enough_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": f"short\n{number}"} for number in range(4)]
    run = run_job([deal(tmp_path / "in", rows, 1) / "*.jsonl"], tmp_path / "out", arms=["line_dedup"])

    assert {row["doc_id"]: row["text"] for row in rows_of(run, "arms/line_dedup")} == {r["id"]: r["text"] for r in rows}
    assert manifest_of(run)["dedup"]["lines"] == {"lines": 0, "repeated": 0, "further_copies": 0, "most_frequent": []}
    assert all(np.isfinite(row["line_dedup.repeated_fraction"]) for row in rows_of(run, "signals"))


def test_another_threshold_only_decides_anew_and_another_number_of_copies_finds_the_hashes_made(
    runs: dict[int, Path],
) -> None:
    def arm(name: str, **settings: Any) -> dict[str, Any]:
        rule = {"filter": "line_dedup", "as": name, "action": "cut", "settings": settings}
        return {"name": name, "rules": [{"filter": "dedup"}, rule]}

    inputs, output = [f"{runs[3].parent.parent / 'in-3'}/*.jsonl"], runs[3].parent
    first = run_job(inputs, output, arms=[arm("a", min_chars=40, max_repeated_fraction=0.5)])
    looser = run_job(inputs, output, arms=[arm("a", min_chars=40, max_repeated_fraction=0.9)])
    more = run_job(inputs, output, arms=[arm("a", min_chars=40, keep=3)])

    assert found(first, "a") == found(looser, "a") == expected(first, 40, 1)
    assert found(more, "a") == expected(more, 40, 3)

    def work(run: Path) -> dict[str, int]:
        return {entry["name"]: entry["shards_done_now"] for entry in manifest_of(run)["passes"]}

    assert [work(run)["measure"] for run in (first, looser, more)] == [3, 0, 0]
    assert [work(run)["dedup"] for run in (first, looser, more)] == [1, 0, 1]
    assert manifest_of(looser)["dedup"] == manifest_of(first)["dedup"]
