"""Spans out of a text, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.redaction import MASK, REPLACEMENTS, Edit, redact, sentence_bounds


def mask(start: int, end: int, label: str = "") -> Edit:
    return Edit(start, end, "mask", label)


def cut(start: int, end: int) -> Edit:
    return Edit(start, end, "cut")


def sentence(start: int, end: int) -> Edit:
    return Edit(start, end, "drop_sentence")


def test_a_mask_takes_the_place_of_its_span() -> None:
    assert redact("one two three", [mask(4, 7)]) == f"one {MASK} three"


@pytest.mark.parametrize("label", sorted(REPLACEMENTS))
def test_personal_data_is_replaced_by_a_documentation_value(label: str) -> None:
    assert redact("to x now", [mask(3, 4, label)]) == f"to {REPLACEMENTS[label]} now"


def test_a_cut_leaves_nothing() -> None:
    assert redact("one two three", [cut(4, 8)]) == "one three"


def test_a_sentence_goes_with_its_full_stop_and_its_white_space() -> None:
    text = "First one. Second, bad one! Third one."

    assert redact(text, [sentence(19, 22)]) == "First one. Third one."


def test_a_line_break_ends_a_sentence_too() -> None:
    assert redact("a line\na bad line\na last line", [sentence(9, 12)]) == "a line\na last line"


def test_a_span_over_two_sentences_takes_both() -> None:
    assert redact("One. Two. Three.", [sentence(2, 6)]) == "Three."


def test_a_span_that_ends_where_a_sentence_begins_does_not_take_it() -> None:
    assert redact("One. Two.", [sentence(0, 5)]) == "Two."


def test_offsets_are_code_points_not_bytes() -> None:
    assert redact("😀é x ü", [mask(3, 4)]) == f"😀é {MASK} ü"


def test_several_spans_keep_what_stands_between_them_whatever_their_order() -> None:
    edits = [mask(8, 13), cut(0, 4), mask(4, 7)]

    assert redact("one two three", edits) == redact("one two three", edits[::-1]) == f"{MASK} {MASK}"


def test_two_masks_that_overlap_hide_both_spans() -> None:
    """The second used to be skipped, and what reached beyond the first stood in the text."""
    assert redact("say badword loudly", [mask(4, 7), mask(6, 11)]) == f"say {MASK} loudly"


def test_two_masks_of_two_kinds_that_overlap_hide_both_spans() -> None:
    assert redact("mail a@b.cc now", [mask(5, 9, "EMAIL"), mask(7, 11)]) == f"mail email@example.com{MASK} now"


def test_a_mask_inside_another_changes_nothing() -> None:
    assert redact("say badword loudly", [mask(4, 11), mask(6, 8)]) == f"say {MASK} loudly"


def test_where_a_cut_overlaps_a_mask_the_rest_of_the_mask_stays_masked() -> None:
    """The mask used to be skipped, and what the cut left of its span stood in the text."""
    assert redact("say badword loudly", [mask(4, 11), cut(7, 18)]) == f"say {MASK}"
    assert redact("say badword loudly", [mask(4, 11), cut(6, 8)]) == f"say {MASK}{MASK} loudly"


def test_a_cut_over_a_whole_mask_leaves_no_mask() -> None:
    assert redact("say badword loudly", [mask(4, 11), cut(3, 11)]) == "say loudly"


def test_spans_that_touch_are_one_cut() -> None:
    assert redact("abcdef", [cut(1, 3), cut(3, 5)]) == "af"


def test_cutting_everything_leaves_the_empty_text() -> None:
    assert redact(" one two ", [cut(0, 9)]) == ""


def test_sentences_cover_the_text() -> None:
    assert sentence_bounds('He said "no." She left.\n\nEnd') == [(0, 14), (14, 25), (25, 28)]
    assert sentence_bounds("") == []


# Letters the edits never produce stand for themselves, so that what stayed can be recognised.
TEXTS = st.text("abcxyz .!\nüß中😀", max_size=60)


@given(TEXTS, st.data())
def test_every_character_outside_the_spans_stays_and_none_inside_does(text: str, data: st.DataObject) -> None:
    spans = data.draw(
        st.lists(
            st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.sampled_from(["mask", "cut"])),
            max_size=5,
        )
    )
    edits = [Edit(min(a, b), max(a, b), action) for a, b, action in spans if a != b]
    inside = {i for edit in edits for i in range(edit.start, edit.end)}

    left = redact(text, edits).replace(MASK, "")

    assert left.strip() == "".join(c for i, c in enumerate(text) if i not in inside).strip()


@given(TEXTS, st.data())
def test_a_dropped_sentence_goes_whole_and_the_others_stay_whole(text: str, data: st.DataObject) -> None:
    bounds = sentence_bounds(text)
    chosen = data.draw(st.sets(st.sampled_from(range(len(bounds))))) if bounds else set()

    left = redact(text, [sentence(*bounds[i]) for i in sorted(chosen)])

    assert left == "".join(text[a:b] for i, (a, b) in enumerate(bounds) if i not in chosen).strip()


@given(TEXTS)
def test_sentences_lie_end_to_end(text: str) -> None:
    assert "".join(text[a:b] for a, b in sentence_bounds(text)) == text


@given(TEXTS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5), st.randoms())
def test_the_order_of_the_edits_leaves_no_trace(text: str, spans: list[tuple[int, int]], random: object) -> None:
    actions = ("mask", "cut", "drop_sentence")
    edits = [
        Edit(min(a, b), min(max(a, b), len(text)), actions[i % 3])
        for i, (a, b) in enumerate(spans)
        if min(a, b) < min(max(a, b), len(text))
    ]
    shuffled = list(edits)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert redact(text, shuffled) == redact(text, edits)
