"""Preference files in and out: every line kept, skipped by name or reported with its place."""

from __future__ import annotations

import gzip
import json
from itertools import combinations
from pathlib import Path

import pytest
import zstandard

from alignment.preferences import (
    DemonstrationRow,
    JudgedRow,
    PreferenceRow,
    RankedRow,
    RatingRow,
    judged_from_pairs,
    pairs_from_ranked,
    pairs_from_ratings,
    ranked_from_ratings,
    read_comparisons,
    read_demonstrations,
    read_judged,
    read_preferences,
    read_ranked,
    read_ratings,
    rows_sha256,
    write_rows,
)
from curation.errors import DataContractError, StageError

ASKED = ({"role": "user", "content": "Hi"},)


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_bad_line_is_reported_with_file_and_number_and_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.jsonl"
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    path.write_bytes(
        b"\n".join(
            [
                json.dumps(good).encode(),
                b"{not json",
                b'{"prompt": "p", "chosen": "\xff", "rejected": "b"}',
                b"[1, 2]",
                b'{"prompt": "p", "chosen": "a"}',
                b'{"prompt": "p", "chosen": 3, "rejected": "b"}',
                b'{"prompt": "p", "chosen": "a", "rejected": "b", "margin": "big"}',
                b'{"prompt": "p", "chosen": "a", "rejected": "b", "margin": NaN}',
                b'{"prompt": "p", "chosen": "\\ud800", "rejected": "b"}',
                b'{"a":' * 100_000,
                b"",
                b'{"prompt": "p", "chosen": "a", "rejected": "a"}',
                b'{"prompt": "p", "chosen": "a", "rejected": "b", "tie": true}',
                json.dumps({**good, "margin": 2, "annotator_id": "ann", "source": "s", "tie": False}).encode(),
            ]
        )
    )
    rows = read_preferences(path)
    assert list(rows) == [PreferenceRow("p", "a", "b"), PreferenceRow("p", "a", "b", 2.0, "ann", "s")]
    assert rows.fates == {"kept": 2, "skipped_bad_line": 9, "skipped_equal_responses": 1, "skipped_tie": 1}
    assert rows[:1] == [PreferenceRow("p", "a", "b")]
    assert rows[:1].fates == {**rows.fates, "kept": 1}
    assert [problem.where for problem in rows.problems] == [f"{path}:{n}" for n in range(2, 11)]
    assert [problem.message for problem in rows.problems][3:7] == [
        "`rejected` is missing",
        "`chosen` is '3'",
        "`margin` is 'big'",
        "`margin` is 'nan'",
    ]
    assert f"{path}:5" in capsys.readouterr().err


def test_a_file_without_one_good_row_is_an_error_that_says_what_became_of_the_rows(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b", "tie": True}, 7)
    with pytest.raises(DataContractError, match="skipped_bad_line 1, skipped_tie 1"):
        read_preferences(path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataContractError, match="the file is empty"):
        read_preferences(tmp_path / "empty.jsonl")
    with pytest.raises(StageError, match=r"absent\.jsonl"):
        read_preferences(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst"])
def test_a_file_cut_in_half_is_an_error_not_half_the_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_rows(path, [PreferenceRow(f"prompt {k * k}", f"yes {k**3}", f"no {k**5}") for k in range(3000)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataContractError, match="unreadable"):
        read_preferences(path)


def test_compressed_files_of_several_frames_are_read_to_their_end(tmp_path: Path) -> None:
    one, two = (json.dumps({"prompt": p, "chosen": "a", "rejected": "b"}).encode() + b"\n" for p in "pq")
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(one) + gzip.compress(two))
    frame = zstandard.ZstdCompressor().compress
    (tmp_path / "x.jsonl.zst").write_bytes(frame(one) + frame(two))
    for name in ("x.jsonl.gz", "x.jsonl.zst"):
        assert [row.prompt for row in read_preferences(tmp_path / name)] == ["p", "q"]


def test_all_forms_of_trl_pairs_give_the_same_row(tmp_path: Path) -> None:
    said = [{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]
    path = lines(
        tmp_path / "x.jsonl",
        {"prompt": list(ASKED), "chosen": said[0], "rejected": said[1]},
        {"chosen": [*ASKED, *said[0]], "rejected": [*ASKED, *said[1]]},
    )
    assert list(read_preferences(path)) == [PreferenceRow(ASKED, "a", "b")] * 2
    hh = "\n\nHuman: Hi\n\nAssistant: So?\n\nHuman: Well\n\nAssistant:"
    path = lines(
        tmp_path / "y.jsonl",
        {"chosen": hh + " one more", "rejected": hh + " one less"},
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    )
    assert list(read_preferences(path)) == [
        PreferenceRow(hh, " one more", " one less"),
        PreferenceRow("The sky is", " blue.", " green."),
    ]


def test_the_implicit_prompt_is_trls_but_never_ends_inside_a_word(tmp_path: Path) -> None:
    extract = pytest.importorskip("trl").extract_prompt
    records = [
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"chosen": "Say: yes", "rejected": "Say: no"},
        {"chosen": "no more", "rejected": "yes please"},
    ]
    found = read_preferences(lines(tmp_path / "x.jsonl", *records))
    for row, record in zip(found, records, strict=True):
        assert {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected} == extract(record)
    inside = {"chosen": "one two three", "rejected": "one two thrice"}
    assert extract(inside)["prompt"] == "one two thr"
    assert list(read_preferences(lines(tmp_path / "y.jsonl", inside))) == [
        PreferenceRow("one two", " three", " thrice")
    ]


def test_every_kind_reads_back_as_it_was_written(tmp_path: Path) -> None:
    whose = {"annotator_id": "a7", "source": "s", "pool": "north", "guidelines": "2"}
    pairs = [PreferenceRow("p\n\x00é", "a", "b", 0.5, **whose), PreferenceRow(ASKED, "a", "")]
    ranked = [RankedRow("p", ("a", "b", "c"), (2, 1, 2), **whose)]
    ratings = [RatingRow("p", "a", 4.0, ("toxic",), **whose), RatingRow(ASKED, "b", 1.5)]
    judged = [JudgedRow("p", "a", False, **whose), JudgedRow(ASKED, "b", True)]
    shown = [DemonstrationRow("p", "a", "s"), DemonstrationRow(ASKED, "b")]
    for rows, read in (
        (pairs, read_preferences),
        (ranked, read_ranked),
        (ratings, read_ratings),
        (judged, read_judged),
        (shown, read_demonstrations),
    ):
        for suffix in ("jsonl", "jsonl.gz", "jsonl.zst"):
            path = tmp_path / f"x.{suffix}"
            assert write_rows(path, rows) == rows_sha256(rows)  # type: ignore[arg-type]
            assert list(read(path)) == rows  # type: ignore[operator]
            first = path.read_bytes()
            write_rows(path, rows)  # type: ignore[arg-type]
            assert path.read_bytes() == first


def test_conversational_files_load_with_datasets_and_read_back(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [PreferenceRow("\n\nHuman: Hi\n\nAssistant:", " a", " b"), PreferenceRow(ASKED, "c", "d", 1.0)]
    write_rows(tmp_path / "x.jsonl", rows, conversational=True)
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "x.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded["prompt"][0] == loaded["prompt"][1] == [{"role": "user", "content": "Hi"}]
    assert loaded["chosen"][1] == [{"role": "assistant", "content": "c"}]
    assert [row.chosen for row in read_preferences(tmp_path / "x.jsonl")] == [" a", "c"]


def test_a_dialogue_gives_a_demonstration_for_each_answer(tmp_path: Path) -> None:
    said = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Bye"},
    ]
    path = lines(tmp_path / "x.jsonl", {"messages": said, "source": "s"}, {"messages": said[:2]}, {"messages": "no"})
    rows = read_demonstrations(path)
    assert list(rows) == [
        DemonstrationRow(tuple(said[:2]), "Hello", "s"),
        DemonstrationRow(tuple(said[:4]), "Bye", "s"),
    ]
    assert rows.fates == {"kept": 2, "skipped_bad_line": 2}


def test_a_ranked_list_gives_all_pairs_but_ties_and_equal_texts() -> None:
    row = RankedRow("p", ("c", "a", "b", "a"), (3, 1, 2, 2), "ann", "s", "pool", "v")
    whose = ("ann", "s", "pool", "v")
    assert pairs_from_ranked([row]) == [
        PreferenceRow("p", "a", "b", 0.0, *whose),
        PreferenceRow("p", "a", "c", 0.0, *whose),
        PreferenceRow("p", "b", "c", 0.0, *whose),
        PreferenceRow("p", "a", "c", 0.0, *whose),
    ]
    nine = RankedRow("p", tuple("abcdefghi"), tuple(range(1, 10)))
    assert [(pair.chosen, pair.rejected) for pair in pairs_from_ranked([nine])] == list(combinations("abcdefghi", 2))


def test_lists_are_best_first_without_ranks_and_all_tied_lists_are_skipped_by_name(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        {"prompt": "p", "responses": ["a", "b"]},
        {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 1]},
        {"prompt": "p", "responses": ["a", "a"]},
        {"prompt": "p", "responses": ["a"]},
        {"prompt": "p", "responses": ["a", "b"], "ranks": [0, 1]},
        {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2, 3]},
    )
    rows = read_ranked(path)
    assert list(rows) == [RankedRow("p", ("a", "b"), (1, 2))]
    assert rows.fates == {"kept": 1, "skipped_bad_line": 3, "skipped_equal_responses": 1, "skipped_tie": 1}


def test_ratings_of_one_prompt_by_one_annotator_become_a_list_flags_before_ratings() -> None:
    rows = [
        RatingRow("p", "fine", 3.0, (), "x"),
        RatingRow("p", "flagged", 5.0, ("toxic",), "x"),
        RatingRow("p", "as fine", 3.0, (), "x"),
        RatingRow("p", "poor", 1.0, (), "x"),
        RatingRow("p", "worst", 5.0, ("toxic", "untrue"), "x"),
        RatingRow("p", "fine", 1.0, (), "y"),  # another person's scale
        RatingRow("q", "fine", 1.0, (), "x"),  # another prompt
    ]
    assert ranked_from_ratings(rows) == [
        RankedRow("p", ("fine", "flagged", "as fine", "poor", "worst"), (1, 4, 1, 3, 5), "x")
    ]
    assert [(pair.chosen, pair.rejected) for pair in pairs_from_ratings(rows)] == [
        ("fine", "poor"),
        ("fine", "flagged"),
        ("fine", "worst"),
        ("as fine", "poor"),
        ("as fine", "flagged"),
        ("as fine", "worst"),
        ("poor", "flagged"),
        ("poor", "worst"),
        ("flagged", "worst"),
    ]


def test_pairs_lists_and_ratings_of_one_file_all_reach_the_reward_model(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "responses": ["a", "b"]},
        {"prompt": "p", "response": "a", "rating": 5},
        {"prompt": "p", "response": "b", "rating": 2, "flags": ["biased", "biased"]},
        {"prompt": "p", "response": "c", "rating": 9},
    )
    rows = read_comparisons(path)
    assert list(rows) == [
        PreferenceRow("p", "a", "b"),
        RankedRow("p", ("a", "b"), (1, 2)),
        RankedRow("p", ("a", "b"), (1, 2)),
    ]
    assert rows.fates == {"kept": 4, "skipped_bad_line": 1}


def test_a_pair_is_two_judgements() -> None:
    assert judged_from_pairs([PreferenceRow("p", "a", "b", 1.0, "ann")]) == [
        JudgedRow("p", "a", True, "ann"),
        JudgedRow("p", "b", False, "ann"),
    ]


def test_the_hash_of_rows_sees_every_field_and_the_order_but_not_how_a_prompt_is_held() -> None:
    one, two = PreferenceRow("p", "a", "b"), PreferenceRow("p", "b", "a")
    hashes = {
        rows_sha256(rows)  # type: ignore[arg-type]
        for rows in (
            [one, two],
            [two, one],
            [one],
            [PreferenceRow("p", "a", "b", 1.0)],
            [PreferenceRow("p", "a", "b", 0.0, "ann")],
            [JudgedRow("p", "a", True)],
            [],
        )
    }
    assert len(hashes) == 7
    assert rows_sha256([PreferenceRow(ASKED, "a", "b")]) == rows_sha256([PreferenceRow(list(ASKED), "a", "b")])
