"""Terms as reports show them."""

from curation.lexicon.masking import mask_spans, mask_term


def test_only_the_first_character_of_each_word_is_shown() -> None:
    assert [mask_term(term) for term in ("kike", "two words", "slant-eye", "f.u.c.k", "a", "")] == [
        "k***", "t** w****", "s****-e**", "*.*.*.*", "*", "",
    ]  # fmt: skip


def test_spans_are_masked_once_each_in_any_order() -> None:
    assert mask_spans("you idiot, you fool", [(15, 19), (4, 9), (6, 9)]) == "you i****, you f***"
