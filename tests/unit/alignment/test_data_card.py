"""The data card beside a reward model says who gave its rows, and what nobody knows about them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from alignment.annotators import Guidelines
from alignment.data_card import UNKNOWN, data_card, write_data_card
from alignment.feedback.answers import Answer
from alignment.feedback.export import export
from alignment.feedback.items import Item
from alignment.feedback.store import Store
from alignment.preference_rows import PreferenceRow, RankedRow, rows_sha256
from alignment.preferences import read_comparisons, write_rows

ROWS = [
    PreferenceRow("q1", "long answer", "short", 0.0, "n-1", "web", "north", "1"),
    PreferenceRow("q1", "short", "long answer", 0.0, "s-1", "web", "south", "1"),
    PreferenceRow("q2", "yes", "no way", 0.0, "n-1", "web", "north", "2"),
    RankedRow("q3", ("aa", "b", "cc"), (1, 2, 2), source="old"),
]


def test_rows_of_any_file_are_counted_by_source_annotator_and_pool(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_rows(path, ROWS)
    assert data_card(ROWS, [path, tmp_path / "missing.jsonl"]) == {
        "schema_version": 1,
        "rows": 4,
        "rows_sha256": rows_sha256(ROWS),
        "pairs": 3,
        "lists": 1,
        "prompts": 3,
        "files": [
            {"file": "pairs.jsonl", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "card": "none"},
        ],
        "sources": {"old": 1, "web": 3},
        "guidelines": {"": 1, "1": 2, "2": 1},
        "annotators": 2,
        "rows_without_annotator": 1,
        "pools": {
            "": {"rows": 1, "annotators": 0},
            "north": {"rows": 2, "annotators": 1},
            "south": {"rows": 1, "annotators": 1},
        },
        # one unit of two opposed values: observed disagreement is all there is, α = 1 − (n − 1)·D_o/D_e = 0 for n = 2
        "agreement": {"ranks": {"alpha": None, "units": 0}, "choices": {"alpha": 0.0, "units": 1}},
        "label_noise": "see agreement",
        # 11 over 5 yes, 5 over 11 no, 3 over 6 no, 2 over 1 yes; "aa" and "cc" are of one length
        "skews": {
            "largest_annotator_share": {"share": 2 / 3, "of": 3},
            "longer_is_better": {"share": 0.5, "of": 4},
        },
        "exports": [],
    }


def test_where_no_two_people_judged_the_same_the_noise_is_said_to_be_unknown(tmp_path: Path) -> None:
    card = data_card(ROWS[2:])
    assert card["label_noise"] == UNKNOWN
    write_data_card(tmp_path, ROWS[2:])
    page = (tmp_path / "data_card.md").read_text()
    assert f"Label noise: {UNKNOWN}." in page
    assert "| not said | 1 | 0 |" in page
    assert json.loads((tmp_path / "data_card.json").read_text()) == card


def test_rows_of_an_export_bring_its_card_with_the_guidelines_unless_it_is_of_other_answers(tmp_path: Path) -> None:
    store = Store(tmp_path / "answers.db", create=True)
    store.add_guidelines(Guidelines(version="3", text="Prefer | the <b>true</b> answer."))
    item = Item("i", "q", ("one", "two more", "three"), (), "", True)
    store.add_items([item])
    for who, ranks in (("n-1", [1, 2, 3]), ("n-2", [1, 2, 3]), ("s-1", [1, 3, 2])):
        body = {"shown": [0, 1, 2], "ranks": ranks, "ratings": [3, 3, 3], "flags": [[], [], []]}
        store.save(Answer(who, who[0], "i", "3", body))
    exported = export(store, tmp_path / "out")
    files = [tmp_path / "out" / "ranked.jsonl", tmp_path / "out" / "pairs.jsonl"]
    rows = read_comparisons(files[0])
    card = data_card(rows, files)
    assert [one["card"] for one in card["files"]] == ["taken", "taken"]
    assert card["exports"] == [exported]  # once, though two files stand beside it
    assert card["agreement"]["ranks"]["alpha"] == pytest.approx(exported["agreement"]["ranks"]["alpha"])
    write_data_card(tmp_path, rows, files)
    page = (tmp_path / "data_card.md").read_text()
    assert "### Guidelines, version 3 (3 answers)" in page
    assert "> Prefer | the <b>true</b> answer." in page
    files[0].write_text(files[0].read_text() + "\n")
    assert [one["card"] for one in data_card(rows, files)["files"]] == ["of other answers than these", "taken"]
    (tmp_path / "out" / "card.json").write_text("[]")
    assert {one["card"] for one in data_card(rows, files)["files"]} == {"not that of an export with this file"}
