"""Lopsided corpora: templates by the thousand, one file with half of all bytes."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest
from jobs import Row, copies, corpus, deal, kept_ids, manifest_of, run_job, words, write_jsonl

from beam_jobs import verification

pytestmark = pytest.mark.integration
TEMPLATED = 150
FIELDS = 2


def template(number: int, length: int = 200) -> str:
    """One text but for two words: 10 of 196 5-grams, Jaccard 186 / 206 = 0.903 with every other."""
    text = words("template", length)
    for place in (40, 120):
        text[place] = f"field{number}"
    return " ".join(text)


def frame(number: int) -> str:
    """Three fifths of the words are everybody's, the rest its own: Jaccard about 0.4."""
    everybodys = words("frame", 120)
    return " ".join([*everybodys[:60], *words(("own", number), 80), *everybodys[60:]])


def lopsided(seed: int = 0) -> list[Row]:
    """30 % of one template in three kinds: copies of one text, filled fields, a boilerplate frame."""
    rows = corpus(1050, seed)
    kinds = {"copy": lambda _: template(999), "field": template, "frame": frame}
    for kind, text in kinds.items():
        rows += [{"id": f"{kind}-{i:03d}", "text": text(i), "source": "web", "url": None} for i in range(TEMPLATED)]
    random.Random(seed).shuffle(rows)
    return rows


def shingles(text: str) -> set[tuple[str, ...]]:
    found = text.lower().replace(".", "").split()
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def one_giant(folder: Path, rows: list[Row]) -> Path:
    """Half of the rows in one file, the others in seven."""
    half = len(rows) // 2
    write_jsonl(folder / "giant.jsonl", rows[:half])
    return deal(folder, rows[half:], 7)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("skew")
    return run_job([deal(root / "in", lopsided(), 8) / "*.jsonl"], root / "runs", arms=["dedup_only"])


def test_of_copies_and_filled_templates_one_stays_and_frames_stay_all(run: Path) -> None:
    kept = kept_ids(run, "dedup_only")

    # All are as long: which one stays is the hash's choice. The template's copies are one of its fillings more.
    assert len([name for name in kept if name.startswith(("copy", "field"))]) == 1
    assert len([name for name in kept if name.startswith("frame")]) == TEMPLATED
    dedup = manifest_of(run)["dedup"]
    assert dedup["largest_component"] >= 2 * TEMPLATED
    assert dedup["capped"] == 0


def test_every_removed_filling_says_its_true_similarity_with_what_stays(run: Path) -> None:
    texts = {row["id"]: row["text"] for row in lopsided()}
    removed = copies(run)
    stays = set(kept_ids(run, "dedup_only"))
    checked = 0
    for name, row in removed.items():
        if row["kind"] == "near" and name.startswith(("copy", "field")):
            left, right = shingles(texts[name]), shingles(texts[row["duplicate_of"]])
            assert row["duplicate_of"] in stays
            assert row["jaccard"] == float(Fraction(len(left & right), len(left | right)))
            checked += 1

    assert checked >= TEMPLATED - 1


def test_a_giant_file_changes_neither_what_stays_nor_what_it_resembles(run: Path, tmp_path: Path) -> None:
    giant = run_job([one_giant(tmp_path / "in", lopsided()) / "*.jsonl"], tmp_path / "runs", arms=["dedup_only"])

    assert copies(giant) == copies(run)
    assert sorted(kept_ids(giant, "dedup_only")) == sorted(kept_ids(run, "dedup_only"))


def test_a_component_larger_than_a_partition_is_walked_in_pieces_with_the_same_outcome(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "LEAST_PARTITION_BYTES", 20_000)  # fourteen fillings
    monkeypatch.setattr(verification, "MOST_PARTITION_BYTES", 20_000)
    monkeypatch.setattr(verification, "LEAST_GROUPS", 3)
    pieces = run_job([deal(tmp_path / "in", lopsided(), 8) / "*.jsonl"], tmp_path / "runs", arms=["dedup_only"])

    assert copies(pieces) == copies(run)
    assert manifest_of(pieces)["dedup"] == manifest_of(run)["dedup"]
