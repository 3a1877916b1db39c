"""HTML pages as served to plain text: which charset, and which part of the page is the text.

Two extractors, chosen by `InputSettings.extractor`; docs/results/extraction.md compares them on gold pages.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable
from typing import Literal

from curation.errors import ConfigError, Problem

Extractor = Literal["trafilatura", "resiliparse"]

META_BYTES = 1024  # the HTML standard, section 13.2.3.2: a charset declaration is looked for in the first 1024 bytes
_META = re.compile(rb"""<meta[^>]{0,400}?charset\s*=\s*["']?\s*([a-zA-Z0-9_.:-]{1,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([a-zA-Z0-9_.:-]{1,40})""")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# What browsers read under another name (WHATWG Encoding Standard, section 4.2): pages that say Latin-1 or ASCII hold
# Windows-1252, gb2312 is a part of gbk, a meta element that can be read at all is not in UTF-16.
_AS_BROWSERS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "utf-16": "utf-8",
    "utf-16-le": "utf-8",
    "utf-16-be": "utf-8",
}


def decode(page: bytes, http_charset: str | None = None) -> str:
    """The characters of a page: by its byte order mark, the HTTP header, its own declaration, UTF-8, Windows-1252.

    A declared charset that does not fit the bytes, while UTF-8 does, is not believed; otherwise undecodable bytes
    become U+FFFD.
    """
    for mark, name in _BOMS:
        if page.startswith(mark):
            return page[len(mark) :].decode(name, "replace")
    declared = _known(http_charset) or declared_charset(page)
    for candidate in (declared, "utf-8", "cp1252"):
        if candidate is not None:
            try:
                return page.decode(candidate)
            except UnicodeDecodeError:
                continue
    return page.decode(declared or "cp1252", "replace")


def declared_charset(page: bytes) -> str | None:
    """The Python codec that a page's meta element or XML declaration names; None when there is none we know."""
    head = page[:META_BYTES]
    found = _META.search(head) or _XML.search(head)
    return _known(found[1].decode("ascii")) if found else None


def _known(name: str | None) -> str | None:
    if not name:
        return None
    try:
        codec = codecs.lookup(name.strip("\"' ").lower())
    except LookupError:
        return None
    # Python calls some byte transforms codecs too (`hex`, `zip`); they decode no text.
    return _AS_BROWSERS.get(codec.name, codec.name) if codec._is_text_encoding else None


def looks_like_html(page: bytes) -> bool:
    """True when a page without a content type begins as HTML does."""
    head = page[:META_BYTES].lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in head


def extractor(name: Extractor) -> Callable[[str], str]:
    """Page source to text, paragraphs on lines of their own; empty when the page has no text.

    Raises:
        ConfigError: the library of the extractor is not installed.
    """
    return _resiliparse() if name == "resiliparse" else _trafilatura()


def _trafilatura() -> Callable[[str], str]:
    from trafilatura import extract

    # Its warnings are about single pages; ours are dead letters, and a page's words do not belong in a log.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)

    def run(page: str) -> str:
        # fast: without the second and third algorithm on pages that came out short, which cost a third of the speed
        # for half a point of F1.
        return extract(page, fast=True, include_comments=False) or ""

    return run


def _resiliparse() -> Callable[[str], str]:
    try:
        from resiliparse.extract.html2text import extract_plain_text
    except ImportError as error:
        raise ConfigError(
            Problem(
                "missing-extra",
                "extractor `resiliparse` needs a library that is not installed",
                "input.extractor",
                hint="pip install resiliparse, or choose `trafilatura`",
            )
        ) from error

    def run(page: str) -> str:
        return str(extract_plain_text(page, main_content=True, alt_texts=False, comments=False))

    return run
