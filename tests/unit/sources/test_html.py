"""The charset of a page: what is believed, and in which order."""

from __future__ import annotations

import pytest

from curation.sources.html import declared_charset, decode, extractor, looks_like_html

PAGES = [
    ("é".encode(), None, "é", "UTF-8 by default"),
    ("é".encode("cp1252"), None, "é", "Windows-1252 when it is no UTF-8"),
    (b"\xef\xbb\xbf" + "é".encode(), "latin-1", "é", "a byte order mark beats the header"),
    ("é".encode("utf-16"), None, "é", "UTF-16 by its mark"),
    ("привет".encode("koi8-r"), "KOI8-R", "привет", "the HTTP header"),
    (b"<meta charset='windows-1251'>" + "привет".encode("cp1251"), None, "<meta charset='windows-1251'>привет", "meta"),
    (
        b'<META http-equiv="Content-Type" content="text/html; charset=Shift_JIS">' + "日本".encode("cp932"),
        None,
        '<META http-equiv="Content-Type" content="text/html; charset=Shift_JIS">日本',
        "the old meta element",
    ),
    (
        b'<?xml version="1.0" encoding="EUC-KR"?>' + "한국".encode("cp949"),
        None,
        '<?xml version="1.0" encoding="EUC-KR"?>한국',
        "XML",
    ),
    (b"\x93x\x94", "iso-8859-1", "“x”", "Latin-1 means Windows-1252, as in browsers"),
    ("é".encode(), "ascii", "Ã©", "a header is believed where its charset fits"),
    ("日本".encode(), "euc-kr", "日本", "a header that does not fit is not believed when UTF-8 does"),
    (b"a\x81b", "utf-8", "a\ufffdb", "undecodable bytes are replaced"),
    ("é".encode(), "no-such-charset", "é", "an unknown charset is none"),
    ("é".encode(), "hex", "é", "a byte transform is no charset"),
]


@pytest.mark.parametrize(("page", "header", "expected", "why"), PAGES, ids=[why for *_, why in PAGES])
def test_decode(page: bytes, header: str | None, expected: str, why: str) -> None:
    assert decode(page, header) == expected, why


def test_declared_charset_is_looked_for_in_the_head_only() -> None:
    assert declared_charset(b"<meta charset=utf-16>") == "utf-8"
    assert declared_charset(b" " * 2000 + b"<meta charset=koi8-r>") is None


def test_page_without_a_type_is_known_by_its_beginning() -> None:
    assert looks_like_html(b"\n <!DOCTYPE HTML>x")
    assert looks_like_html(b"<?xml version='1.0'?><html xmlns='x'>")
    assert not looks_like_html(b'{"a": "b"}')


def test_page_without_text_gives_none() -> None:
    for name in ("trafilatura", "resiliparse"):
        if name == "resiliparse":
            pytest.importorskip("resiliparse")
        assert extractor(name)("<html><body></body></html>") == ""  # type: ignore[arg-type]
