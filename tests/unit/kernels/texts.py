"""Texts that try every branch of the scans: scripts, emoji, combining marks, every kind of line break, nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import strategies as st

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

HARD = [
    "",
    " ",
    "\n",
    "a",
    "a\n",
    "\n\n\na",
    "one\r\ntwo\rthree\x0bfour\x0cfive\x1csix\x1dseven\x1eeight\x85nine\u2028ten\u2029",
    "The café's naïve co-operation isn't “over”… is it?... No.... ok......",
    "e\u0301 combining \u0915\u094d\u0937 हिन्दी मराठी। עברית العربية؟ 日本語のテキスト。 中文，字 ไทย",
    "👩‍👩‍👧‍👦 🇫🇷 👍🏽 ☕ a👍b",
    "• one\n- two\n* three\n– four…\n  five...  \n",
    "#tag ## {x} [1] [edit] [citation needed] [12a] https://example.org/a,b?c=1 www.x.y",
    "don't can't 'quoted' it's we’re o'clock n't nn't 3.5 1,000 10:30 3. .5 a_b U.S. -- --- $5 e.g.",
    "x y\n\nx y\n\n\nx y\nx y\n \n\n",
    "the the the the the the the the the the the the",
    "a b c d e a b c d e a b c d e f g h i j k a b c d e f g h i j k l",
    "İstanbul ǅ ß ſ K Å ⅷ ² ½ ٣ _",
]

ALPHABET = st.one_of(
    st.sampled_from(list("ab .\n#-'’…“”[]1e{}•*?!\",:\r\u2028\u00a0")),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.lists(
    st.one_of(
        st.text(ALPHABET, max_size=80),
        st.lists(
            st.sampled_from(["the", "a", "b ", "\n", "\n\n", " ", "x y", "é", "… ", "don't ", "."]), max_size=40
        ).map("".join),
    ),
    min_size=1,
    max_size=5,
)


def rows(name: str, limit: int) -> list[str]:
    """The first `limit` texts of one file of the shared corpus; skips the test where there is no such folder."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    texts: list[str] = []
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(file)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            texts.append(json.loads(line)["text"])
            if len(texts) == limit:
                break
    return texts


def real_texts() -> list[str]:
    """Some real documents of several kinds and languages."""
    return [
        text
        for name in ("reddit", "weborganizer_even", "other_languages", "reuters", "c4_demo")
        for text in rows(f"corpus/{name}.jsonl.zst", 60)
    ]
