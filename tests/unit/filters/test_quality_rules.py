"""Gopher, FineWeb, C4, RefinedWeb: hand-computed numbers, thresholds, and the variants of other implementations."""

from __future__ import annotations

import pytest

from curation.filters import FILTERS
from curation.redaction import Edit, redact
from tests.unit.filters.measuring import codes, measured

SENTENCE = "The miller's wife said that the river would have to be watched with care. "


def test_gopher_quality_numbers_are_those_of_a_hand_count() -> None:
    text = "The cat, with 2 dogs & one hat...\n- and #1 of\n• it…"
    # words: The cat, with 2 dogs & one hat... - and #1 of • it… = 14; symbols alone: & - • = 3; letters in 9
    # (not 2 & - #1 •); characters of the 11 others: 3+4+4+1+4+3+6+3+2+2+3 = 35
    assert measured("gopher_quality", [text]) == {
        "words": [11],
        "word_length": [35 / 11],
        "hashes_per_word": [1 / 14],
        "ellipses_per_word": [2 / 14],
        "bullet_lines_fraction": [2 / 3],
        "ellipsis_lines_fraction": [2 / 3],
        "alpha_words_fraction": [9 / 14],
        "stop_words": [3],
    }


def test_gopher_quality_default_thresholds_keep_prose_and_say_all_that_is_wrong() -> None:
    assert codes("gopher_quality", [SENTENCE * 4, "12 34 56", "a"]) == [
        [],
        ["too_few_words", "words_too_short", "too_few_alpha_words", "too_few_stop_words"],
        ["too_few_words", "words_too_short", "too_few_stop_words"],
    ]


@pytest.mark.parametrize(("n", "found"), [(49, ["too_few_words"]), (50, [])])
def test_gopher_quality_keeps_at_the_threshold(n: int, found: list[str]) -> None:
    assert codes("gopher_quality", [" ".join(["that"] * (n - 1) + ["with"])]) == [found]


def test_gopher_quality_variants_count_as_their_origins_do() -> None:
    text = "* one longword\n- two…\nwith with..."
    plain = measured("gopher_quality", [text])
    dolma = measured("gopher_quality", [text], word_length="median", bullets="dolma", ellipsis="dolma")
    dclm = measured("gopher_quality", [text], stop_words_counted="dclm", stop_words=["with..."])
    datatrove = measured("gopher_quality", [text], words="datatrove")
    assert (plain["word_length"], dolma["word_length"]) == ([(3 + 8 + 4 + 4 + 7) / 5], [4.0])  # 1 1 3 4 4 7 8
    assert (plain["bullet_lines_fraction"], dolma["bullet_lines_fraction"]) == ([1 / 3], [2 / 3])
    assert (plain["ellipses_per_word"], dolma["ellipses_per_word"]) == ([2 / 7], [1 / 7])
    assert (plain["stop_words"], dclm["stop_words"], datatrove["stop_words"]) == ([1], [1], [1])


def test_gopher_repetition_numbers_are_those_of_a_hand_count() -> None:
    text = "ab cd\nab cd\n\nab cd"
    numbers = measured("gopher_repetition", [text])
    assert {k: v for k, v in numbers.items() if "gram" not in k} == {
        "duplicate_line_fraction": [2 / 3],
        "duplicate_paragraph_fraction": [0.0],
        "duplicate_line_char_fraction": [10 / 18],
        "duplicate_paragraph_char_fraction": [0.0],
    }
    assert numbers["top_2_gram_char_fraction"] == [15 / 18]  # `ab cd` three times
    assert numbers["top_3_gram_char_fraction"] == [16 / 18]  # `ab cd ab` twice, overlapping
    assert numbers["duplicate_5_gram_char_fraction"] == [0.0]


def test_gopher_repetition_of_dolma_counts_every_copy_over_the_words() -> None:
    text = "a b c d e x a b c d e"
    numbers = measured("gopher_repetition", [text, text], copies="dolma")
    # 7 five-grams of 5 characters; one of them twice
    assert numbers["duplicate_5_gram_char_fraction"] == [10 / 35] * 2
    assert numbers["duplicate_6_gram_char_fraction"] == [0.0] * 2
    assert numbers["top_2_gram_char_fraction"] == [4 / 11] * 2
    assert measured("gopher_repetition", ["x\nx\ny"], copies="dolma")["duplicate_line_fraction"] == [2 / 3]


def test_fineweb_numbers_are_those_of_a_hand_count() -> None:
    text = "A short line.\n\nThis line is certainly longer than thirty\nA short line."
    assert measured("fineweb", [text]) == {
        "end_punctuated_lines_fraction": [2 / 3],
        "short_lines_fraction": [2 / 3],
        "duplicate_line_char_fraction": [13 / (13 + 41 + 13)],
        "newlines_per_word": [3 / 13],
    }


def test_fineweb_knows_sentence_ends_of_other_scripts() -> None:
    texts = ["日本語の文章です。", "यह वाक्य है।", "هل هذا سؤال؟", "no end"]
    assert measured("fineweb", texts)["end_punctuated_lines_fraction"] == [1.0, 1.0, 1.0, 0.0]


def test_a_blank_text_has_no_share_of_anything() -> None:
    for name in ("gopher_quality", "gopher_repetition", "fineweb", "c4", "refinedweb"):
        for key, values in measured(name, ["   "]).items():
            assert values[0] in (0, []) or key == "chars_left", (name, key)


def test_c4_cutting_the_marked_lines_and_citations_leaves_the_page_of_the_reference_code() -> None:
    text = (
        "Menu\nThis is a good line of text.[2]\n\nWe use cookies on this page of ours.\n"
        "And here is a second good line!\nEnd"
    )
    found = measured("c4", [text])
    edits = [
        Edit(span["start"], span["end"], "cut", span["label"])
        for span in found["bad_line_spans"][0] + found["citation_spans"][0]
    ]
    left = ["This is a good line of text.", "", "And here is a second good line!"]
    assert redact(text, edits).strip().split("\n") == left
    assert (found["bad_lines"], found["citations"], found["sentences"]) == ([3], [1], [2])


def test_c4_counts_characters_that_are_left() -> None:
    assert measured("c4", ["Menu\nThis is a good line.[1]\n\nx"])["chars_left"] == [len("This is a good line.\n\n")]


def test_c4_looks_for_code_only_in_lines_that_could_stay() -> None:
    # The reference code reaches the bracket test only for lines that end well and have enough words.
    assert measured("c4", ["a { b\nThis line is { fine and stays."])["curly_brackets"] == [1]


def test_c4_settings_of_datatrove_are_one_line_each() -> None:
    text = "Only three words."
    assert codes("c4", [text], min_sentences=1) == [["bad_line", "too_few_sentences"]]
    assert codes("c4", [text], min_sentences=1, min_words_per_line=3) == [[]]


def test_refinedweb_drops_documents_that_lose_more_than_a_twentieth_of_their_words() -> None:
    body = "the river ran on past the mill and the town and out to the wide grey sea \n" * 5  # 80 words
    assert codes("refinedweb", [body + "Share\n" * 4, body + "Share\n" * 5]) == [
        ["bad_line"],
        ["bad_line", "too_much_removed"],
    ]


@pytest.mark.parametrize("name", ["gopher_quality", "gopher_repetition", "fineweb", "length"])
def test_null_turns_a_rule_off(name: str) -> None:
    chosen = FILTERS.get(name)
    off = {
        field: None
        for field, info in chosen.settings_type.model_fields.items()
        if field.startswith(("min_", "max_")) and type(None) in getattr(info.annotation, "__args__", ())
    }
    assert off
    assert codes(name, ["a", "- x…\n- x…"], **off) == [[], []]
