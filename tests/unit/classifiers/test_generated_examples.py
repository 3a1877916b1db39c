"""The written training examples: every frame fills, labels point at terms, pairs differ in context alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from classifiers.examples import Example, frame_is_held_out, generated_examples
from classifiers.examples import frames as frames_module
from classifiers.examples.filling import Piece, Stock, render
from classifiers.examples.frames import ROLES, Frame, Member, load_frames, load_wordbook
from classifiers.examples.generate import SHARES, fill_frame
from classifiers.examples.surface import Surface, apply_surface
from curation.errors import ConfigError
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher

PLAIN = Surface("", False, False, "", "", False, False, (), (), " ", 0)


@lru_cache(maxsize=1)
def stock() -> Stock:
    return Stock(load_lexicon("english").entries)


@lru_cache(maxsize=1)
def sample() -> tuple[Example, ...]:
    return tuple(generated_examples(load_lexicon("english").entries, seed=11, count=4000))


def frame_of(text: str, role: str = "use", terms: str = "person") -> Frame:
    return Frame("test", "test", terms, (), (Member(role, role == "use", text),))  # type: ignore[arg-type]


def test_every_frame_fills_without_leaving_a_slot_open() -> None:
    rng = np.random.default_rng(5)
    texts = [example.text for frame in load_frames() for example in fill_frame(frame, stock(), rng)]

    assert [text for text in texts if "{" in text or "}" in text or "|" in text] == []


def test_an_unknown_slot_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="no filling for slot `colour`"):
        render("a {colour} house", stock().draw(frame_of("x"), np.random.default_rng(1)))


def test_a_text_written_twice_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "twice.yaml").write_text("- {family: a, role: use, frames: [same, same]}\n", "utf-8")
    monkeypatch.setattr(frames_module, "FOLDER", tmp_path)

    with pytest.raises(ConfigError, match="frame written twice: same"):
        load_frames.__wrapped__()


def test_a_pair_of_one_member_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "lonely.yaml").write_text("- {family: a, pairs: [{use: alone}]}\n", "utf-8")
    monkeypatch.setattr(frames_module, "FOLDER", tmp_path)

    with pytest.raises(ConfigError, match=r"pair of \['use'\]"):
        load_frames.__wrapped__()


def test_every_kind_of_frame_is_written_and_drawn() -> None:
    assert {frame.kind for frame in load_frames()} == set(SHARES)
    assert len(load_frames()) >= 450
    assert len(load_wordbook().neutral) >= 150


def test_labelled_spans_are_terms_that_the_matcher_finds() -> None:
    examples = sample()
    hits = Matcher(load_lexicon("english")).find(TextBatch.of([example.text for example in examples]))
    found = defaultdict(list)
    for row, start, end in zip(hits.row.tolist(), hits.start.tolist(), hits.end.tolist(), strict=True):
        found[row].append((start, end))
    missed: Counter[str] = Counter()
    spans = 0
    for row, example in enumerate(examples):
        for start, end in example.spans:
            spans += 1
            if not any(left < end and start < right for left, right in found[row]):
                missed[example.text[start:end]] += 1
    print("missed by the matcher:", missed.most_common())

    assert spans > 2000
    assert missed.total() <= 0.01 * spans


def test_an_example_has_spans_exactly_when_it_has_a_role() -> None:
    assert [example.text for example in sample() if bool(example.spans) != (example.role is not None)] == []
    assert {example.role for example in sample()} == {*ROLES, None}
    assert {example.hateful for example in sample() if example.role == "use"} == {True}
    assert {example.hateful for example in sample() if example.role not in {"use", None}} == {False}


def test_texts_are_distinct() -> None:
    texts = [example.text for example in sample()]

    assert len(set(texts)) == len(texts) == 4000


def test_the_same_seed_gives_the_same_examples_and_another_seed_others() -> None:
    entries = load_lexicon("english").entries
    first = list(generated_examples(entries, 3, 50))

    assert first == list(generated_examples(entries, 3, 50))
    assert first != list(generated_examples(entries, 4, 50))


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    entries = load_lexicon("english").entries

    assert list(generated_examples(entries, 3, 80))[:50] == list(generated_examples(entries, 3, 50))


@pytest.mark.parametrize("slot", ["{body}", "{gbody}"])
def test_the_members_of_a_pair_hold_the_same_body(slot: str) -> None:
    rng = np.random.default_rng(8)
    pairs = [f for f in load_frames() if f.kind == "pair" and all(slot in m.text for m in f.members)]
    for frame in pairs:
        filling = stock().draw(frame, rng)
        body = "".join(piece.text for piece in render(slot, filling)).rstrip(".")
        texts = ["".join(piece.text for piece in render(member.text, filling)) for member in frame.members]
        assert all(body in text for text in texts), texts
        assert len(set(texts)) == len(texts)
    assert len(pairs) >= 10


def test_the_members_of_a_pair_share_frame_term_and_neutral_text_and_differ_in_label() -> None:
    frame = next(f for f in load_frames() if f.family == "pair_word")
    surface = Surface("", False, False, "", "", False, False, ("It rained.",), ("The bus came.",), " ", 0)
    filling = stock().draw(frame, np.random.default_rng(2))
    texts = ["".join(piece.text for piece in apply_surface(render(m.text, filling), surface)) for m in frame.members]
    first, second = fill_frame(frame, stock(), np.random.default_rng(2))

    assert all(text.startswith("It rained. ") and text.endswith(" The bus came.") for text in texts)
    assert (first.frame, first.key) == (second.frame, second.key)
    assert (first.role, second.role) == ("use", frame.members[1].role)
    assert first.role != second.role


def test_pairs_follow_each_other_in_what_is_generated() -> None:
    pairs = {frame.id: len(frame.members) for frame in load_frames() if frame.kind == "pair"}
    rows = [example.frame for example in sample()]
    starts = [k for k, frame in enumerate(rows[:-2]) if frame in pairs and (k == 0 or rows[k - 1] != frame)]

    assert all(rows[k + 1] == rows[k] for k in starts)


def test_about_fifteen_percent_of_the_frames_are_held_out_whole() -> None:
    held = [frame.id for frame in load_frames() if frame_is_held_out(frame.id, seed=7)]

    assert 0.11 <= len(held) / len(load_frames()) <= 0.19
    assert held == [frame.id for frame in load_frames() if frame_is_held_out(frame.id, seed=7)]


def test_an_article_agrees_with_the_word_that_fills_its_slot() -> None:
    filling = {"t": "idiot", "body": "", "gbody": "", "gs": "Asian woman"}

    assert render("He is a {t}. A {gs} left.", filling) == [
        Piece("He is an "), Piece("idiot", True, True), Piece(". An "), Piece("Asian woman"), Piece(" left."),
    ]  # fmt: skip


def test_surface_variation_moves_no_label() -> None:
    pieces = [Piece("Somebody shouted "), Piece("wanker", True, True), Piece(" across the street.")]
    surface = Surface("upper", True, False, "star", "👍", True, True, ("It rained.",), (), "\n", 3)

    assert apply_surface(pieces, surface) == [
        Piece("IT RAINED.\n"), Piece("SOMEBODY SHOUTED "), Piece("W*NKER", True, True), Piece(" ACROSS THE STREET."),
        Piece(" 👍"),
    ]  # fmt: skip


def test_slips_leave_terms_alone() -> None:
    pieces = [Piece("yesterday "), Piece("wankers", True, True), Piece(" gathered outside")]
    for seed in range(40):
        surface = Surface("", False, True, "", "", False, False, (), (), " ", seed)
        varied = apply_surface(pieces, surface)
        assert varied[1] == pieces[1]
        assert varied[0] != pieces[0] or varied[2] != pieces[2]


def test_plain_surface_changes_nothing() -> None:
    pieces = [Piece("He said “no” to the "), Piece("wanker", True, True), Piece(".")]

    assert apply_surface(pieces, PLAIN) == pieces


def test_short_and_long_texts_are_found_on_both_sides() -> None:
    lengths = {
        label: np.array([len(e.text.split()) for e in sample() if e.hateful == label]) for label in (True, False)
    }

    for words in lengths.values():
        assert words.min() <= 4
        assert words.max() >= 100
    assert abs(np.median(lengths[True]) - np.median(lengths[False])) <= 6


def test_no_frame_takes_more_than_its_share() -> None:
    counts = Counter(example.frame for example in sample())

    assert max(counts.values()) <= 0.01 * len(sample())
