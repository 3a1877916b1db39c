"""URL lists: what matches, what does not, and what an unreadable list says."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import ConfigError
from curation.filters.url import entries
from tests.unit.filters.measuring import codes


def test_a_document_without_an_address_passes() -> None:
    assert codes("url", ["x", "x"], [None, ""], domains=["example.org"]) == [[], []]


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("http://example.org", True),
        ("https://WWW.Example.ORG:443/path?q=1", True),
        ("a.b.example.org/x", True),
        ("http://user:pw@example.org/", True),
        ("http://example.org.evil.net/", False),
        ("http://notexample.org/", False),
        ("http://other.net/example.org", False),
        ("http://[::1", False),
        ("not an address", False),
    ],
)
def test_a_domain_matches_itself_and_what_is_below(url: str, listed: bool) -> None:
    assert codes("url", ["x"], [url], domains=["Example.org"]) == [["listed_domain"] if listed else []]


def test_lists_are_read_from_files_without_comments(tmp_path: Path) -> None:
    path = tmp_path / "domains.txt"
    path.write_text("# ours\nbad.example  # since May\n\nworse.example\n", encoding="utf-8")
    urls: list[str | None] = ["http://bad.example", "http://worse.example/x", "http://good.example"]
    assert codes("url", ["x"] * 3, urls, domain_files=[str(path)]) == [["listed_domain"], ["listed_domain"], []]


def test_words_are_whole_and_pieces_are_not() -> None:
    urls: list[str | None] = ["http://x.example/poker-night", "http://x.example/pokernight", "http://x.example/P%6Fker"]
    assert codes("url", ["x"] * 3, urls, words=["poker"]) == [["banned_word"], [], ["banned_word"]]
    assert codes("url", ["x"] * 3, urls, substrings=["ker-night"]) == [["banned_substring"], ["banned_substring"], []]


def test_a_missing_list_is_a_config_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.txt"):
        codes("url", ["x"], domain_files=[str(tmp_path / "nowhere.txt")])


def test_a_list_that_is_not_text_is_a_config_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "binary.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.txt"):
        entries((), (str(path),))
