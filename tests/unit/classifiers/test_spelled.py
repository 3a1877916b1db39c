"""Words spelt out letter by letter are closed up, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.base import WEIGHTS
from classifiers.encoder import Encoder
from classifiers.spelled import close_up, moved

WORDS = {"hate", "threat", "women", "a", "i", "scum", "islam"}


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("I h a t e women.", "I hate women."), ("You w o m e n!", "You women!"),
        ("Women are a t h r e a t", "Women are a threat"),
        ("S C U M, all", "SCUM, all"), ("i s l a m", "islam"), ("“s c u m”", "“scum”"), ("x y z z y", "xyzzy"),
        ("é t é s", "étés"),
    ],
)  # fmt: skip
def test_a_spelt_out_word_is_closed_up_and_an_i_or_a_before_it_stays(text: str, closed: str) -> None:
    assert close_up(text, WORDS.__contains__)[0] == closed


@pytest.mark.parametrize(
    "text",
    ["J. R. Smith", "J R Smith", "1 2 3 4", "h  a  t  e", "h-a-t-e", "plan b c def", "一 二 三 四",
     "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z", "h a\nt e", ""],
)  # fmt: skip
def test_initials_numbers_alphabets_and_other_separators_stay(text: str) -> None:
    assert close_up(text, WORDS.__contains__) == (text, [])


def test_every_code_point_that_stays_is_found_where_it_has_moved_to() -> None:
    text = "😀 I h a t e w o m e n, s c u m 😀 end"
    closed, gone = close_up(text, WORDS.__contains__)
    kept = [at for at in range(len(text)) if at not in gone]
    assert [closed[moved(at, gone)] for at in kept] == [text[at] for at in kept]
    assert [moved(at, gone) for at in kept] == list(range(len(closed)))


def test_the_encoder_reads_a_spelt_out_word_and_its_span_as_the_word() -> None:
    encoder = Encoder(WEIGHTS / "encoder.onnx", WEIGHTS / "encoder.tokenizer.json")
    spelt, plain = "All w o m e n are kikes.", "All women are kikes."
    a = encoder.read(spelt, [(spelt.index("kikes"), len(spelt) - 1), (4, 13)])
    b = encoder.read(plain, [(plain.index("kikes"), len(plain) - 1), (4, 9)])
    assert np.array_equal(a[0], b[0])
    assert np.array_equal(a[1], b[1])
