"""Normalisation: what changes, what stays, and that a second pass changes nothing."""

import unicodedata

import pyarrow as pa
import pytest
from ftfy.badness import is_bad
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.kernels.normalise import scan
from curation.kernels.text_batch import TextBatch
from curation.normalise import _may_be_bad, normalise, normalise_batch

CHANGED = [
    ("a\r\nb\rc\x0bd\x0ce\u2028f\u2029g", "a\nb\nc\nd\ne\nf\ng", "every line end becomes a newline"),
    ("\ufeffa\u200bb\u2060c\xadd", "abcd", "byte order mark, zero-width space, word joiner, soft hyphen"),
    ("a\x00b\x07c\x1bd\x7fe\ufffcf", "abcdef", "control characters, object replacement"),
    ("\x1b[31mred\x1b[0m", "red", "terminal colours"),
    ("  a \n b\u3000", "a \n b", "white space at the ends only"),
    ("e\u0301 \u1100\u1161", "é 가", "normal form C, Hangul too"),
    ("schÃ¶n, sÃ³, â€œquotedâ€\x9d", "schön, só, “quoted”", "UTF-8 read as Windows-1252"),
    ("it\x92s", "it’s", "a C1 control is meant as Windows-1252"),
    ("a &gt; b &amp; c&#39;s &quot;d&quot;", 'a > b & c\'s "d"', "entities of an escaped text"),
    ("&amp;amp;gt;", ">", "entities that nest"),
    ("x&#3;y&nbsp;z", "xy\u00a0z", "an entity of a control character"),
    ("\ud83d\ude00 \ud800", "😀 \ufffd", "surrogate pairs are merged, a lone one is replaced"),
    ("\u0e01\u200b\u0e02 a\u200bb", "\u0e01\u200b\u0e02 ab", "Thai keeps its word separator"),
    (" \n\u200b\t ", "", "nothing readable is left"),
]

KEPT = [
    "",
    "Plain ASCII, with\ttabs,\n\nblank lines  and  double spaces.",
    "“Quotes” – dashes… ﬁ ＦＵＬＬ ﷺ ½",
    "if (a &lt; b) { <b>markup</b> keeps its entities }",
    "AT&T & R&D; Q&A",
    "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "👩\u200d👩\u200d👧",
    "\u202bעברית\u202c",
    "Ça va être très œuvre, ÄÖÜ, ½ £ «oui»",
    "Привет, мир! Ёлка №5 «да»",
]

NASTY = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "&;#<>ampltgxAÃÂâ€™œ\x80\x99\x9d\x85\u200b\u200d\ufeff\xa0\xad\r\n\x0b\x0c\x1b[31mØÙ\u0301\u1161Âвр‚Ä√\ud83d\ude00"
            "\u0e01\u2028ГўВЂ"
        ),
    ),
    max_size=40,
)
WIRED = st.lists(
    st.one_of(
        NASTY,
        st.sampled_from(
            ["&amp;", "&lt;", "&#38;", "&#x26;", "amp;", "&#128;", "&shy;", "&#xD800;", "\r", "\n", "\x1b[0m"]
        ),
        st.sampled_from(["é", "naïve", "“x”", "日本", "€", "Ã", "à ", "\u0308"]).map(
            lambda t: t.encode().decode("cp1252", "ignore")
        ),
        st.sampled_from(["é", "“", "日", "я"]).map(lambda t: t.encode().decode("latin-1").encode().decode("latin-1")),
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize(("raw", "expected", "why"), CHANGED, ids=[why for _, _, why in CHANGED])
def test_normalise_repairs_what_transport_broke(raw: str, expected: str, why: str) -> None:
    assert normalise(raw) == expected, why


@pytest.mark.parametrize("text", KEPT)
def test_normalise_keeps_what_the_writer_wrote(text: str) -> None:
    assert normalise(text) == text


@settings(max_examples=400, deadline=None)
@given(WIRED)
@example("&amp;" * 40 + "#97;" * 3 + "amp;lt;")
@example("&" + "amp;" * 200 + "lt;")
@example("Ã\xa0 \xa0Â\x85â€\u200b\u0301")
def test_normalise_twice_is_normalise_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    once.encode()  # no surrogate is left


@settings(max_examples=400, deadline=None)
@given(st.lists(WIRED.map(lambda t: t.encode("utf-8", "replace").decode()), max_size=6))
def test_batch_equals_text_by_text_and_names_what_changed(texts: list[str]) -> None:
    expected = [normalise(text) for text in texts]
    result, changed = normalise_batch(pa.array(texts, pa.string()))
    assert result.to_pylist() == expected
    assert changed.to_pylist() == [new != old for new, old in zip(expected, texts, strict=True)]
    again, changed_again = normalise_batch(result)
    assert again.to_pylist() == expected
    assert not any(changed_again.to_pylist())


@settings(max_examples=400, deadline=None)
@given(WIRED)
def test_the_cheap_patterns_miss_nothing_that_ftfy_calls_bad(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    if is_bad(text):
        assert _may_be_bad().search(text)
        assert scan(TextBatch.of([text])).needs_python.tolist() == [True]


def test_every_character_alone_and_in_pairs_of_ftfys_alphabet_agrees_with_the_kernel() -> None:
    points = [*range(0x20), *range(0x7F, 0x3000), *range(0xF900, 0x10000), *range(0x1F600, 0x1F640), 0x1D15E, 0x2F800]
    texts = [f"a{chr(point)}b" for point in points if not 0xD800 <= point <= 0xDFFF]
    result, _ = normalise_batch(pa.array(texts, pa.string()))
    assert result.to_pylist() == [normalise(text) for text in texts]


def test_untouched_batch_is_handed_back_without_a_copy() -> None:
    texts = pa.array(["plain", "größer", "日本語"])
    result, changed = normalise_batch(texts)
    assert result is texts
    assert changed.to_pylist() == [False, False, False]


def test_sliced_and_chunked_batches_are_normalised_row_by_row() -> None:
    texts = pa.array(["skip", " a ", "b", "c&amp;d"])[1:]
    assert normalise_batch(texts)[0].to_pylist() == ["a", "b", "c&d"]
    chunked = pa.chunked_array([["x "], ["y"]])
    assert normalise_batch(chunked)[0].to_pylist() == ["x", "y"]
    assert normalise_batch(pa.array([], pa.string()))[0].to_pylist() == []
