"""What is read back from an export is what people said."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from feedback_cases import pair, ranking, store_of

from alignment.annotators import Guidelines
from alignment.feedback.answers import Answer
from alignment.feedback.export import background_counts, export
from alignment.feedback.store import Store
from alignment.preference_rows import PreferenceRow, RankedRow, RatingRow
from alignment.preferences import read_preferences, read_ranked, read_ratings
from curation.errors import DataContractError


def answered(path: Path) -> Store:
    store = store_of(path, ranking("one"), pair("two"))
    body = {"shown": [3, 1, 0, 2], "ranks": [1, 2, 2, 4], "ratings": [5, 3, 3, 1], "flags": [[], [], ["toxic"], []]}
    store.save(Answer("n-1", "north", "one", "1", body))
    store.add_guidelines(Guidelines(version="2", text="Prefer | the <b>kind</b> answer."))
    store.save(Answer("s-1", "south", "two", "2", {"shown": [1, 0], "better": 1, "strength": 1}))
    return store


def test_lists_pairs_and_ratings_read_back_with_pool_and_guidelines(tmp_path: Path, place: str) -> None:
    store, out = answered(place), tmp_path / "out"
    export(store, out)
    one, two = store.items()["one"], store.items()["two"]
    north = {"annotator_id": "n-1", "source": "feedback", "pool": "north", "guidelines": "1"}
    south = {"annotator_id": "s-1", "source": "web", "pool": "south", "guidelines": "2"}
    a, b, c, d = one.responses
    assert list(read_ranked(out / "ranked.jsonl")) == [RankedRow(one.prompt, (a, b, c, d), (1, 2, 2, 4), **north)]
    ordered = [(a, b), (a, c), (a, d), (b, d), (c, d)]  # C(4, 2) less the tie of b and c
    assert len(ordered) == len(list(combinations("abcd", 2))) - 1
    assert list(read_preferences(out / "pairs.jsonl")) == [
        *(PreferenceRow(one.prompt, better, worse, 0.0, **north) for better, worse in ordered),
        PreferenceRow(tuple(two.prompt), two.responses[1], two.responses[0], 2 / 3, **south),
    ]
    assert list(read_ratings(out / "ratings.jsonl")) == [
        RatingRow(one.prompt, text, rating, flags, **north)
        for text, rating, flags in zip((a, b, c, d), (5.0, 3.0, 3.0, 1.0), ((), (), ("toxic",), ()), strict=True)
    ]


def test_the_card_says_who_how_many_and_under_which_guidelines(tmp_path: Path, place: str) -> None:
    out = tmp_path / "out"
    card = export(answered(place), out)
    assert json.loads((out / "card.json").read_text()) == card
    assert {name: file["rows"] for name, file in card["files"].items()} == {
        "ranked.jsonl": 1,
        "pairs.jsonl": 6,
        "ratings.jsonl": 4,
    }
    assert [(text["version"], text["answers"]) for text in card["guidelines"]] == [("1", 1), ("2", 1)]
    assert card["skews"]["longer_is_better"] == {"share": 1 / 6, "of": 6}  # the pair alone; ranks favour the shorter
    assert card["skews"]["first_shown_is_best"] == {"2": {"share": 1.0, "of": 1}, "4": {"share": 0.0, "of": 1}}
    assert card["models"] == {"m0": 1, "m1": 1} | {f"secret-model-{k}": 1 for k in range(4)}
    page = (out / "card.md").read_text()
    for text in ("## Who", "## Known skews", "> Prefer | the <b>kind</b> answer.", "- flag `toxic` was set 1 times"):
        assert text in page


def test_groups_too_small_to_hide_in_are_joined() -> None:
    said = [{"region": "Orkney"}] * 5 + [{"region": "Fair Isle"}, {"age": "25–34"}]
    assert background_counts(said, 8) == {
        "age": {"other": 1, "not said": 7},
        "region": {"Orkney": 5, "other": 1, "not said": 2},
    }


def test_nothing_to_export_is_said_and_nothing_written(tmp_path: Path, place: str) -> None:
    with pytest.raises(DataContractError, match="no-answers"):
        export(store_of(place, ranking("one")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_neither_the_pages_nor_the_export_of_dialogues_import_torch(tmp_path: Path, place: str) -> None:
    answered(place).close()
    code = (
        "import sys; from pathlib import Path; import alignment.feedback.web;"
        "from alignment.feedback.store import Store;"
        "from alignment.feedback.export import export; export(Store(sys.argv[1]), Path(sys.argv[2]));"
        "print('torch' in sys.modules)"
    )
    out = str(tmp_path / "out")
    done = subprocess.run([sys.executable, "-c", code, place, out], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
