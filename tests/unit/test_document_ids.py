"""The id of a document whose input has none: a function of what it is, never of where it stood."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.document import DOCUMENTS, REASON, REMOVED, VERDICTS, doc_id_of


def test_ids_are_pinned_so_that_old_runs_keep_theirs() -> None:
    assert doc_id_of("web", "https://example.org/", "A text.") == "hw-13a7cff66c3704ee4d2d560c7193f3b3"
    assert doc_id_of("web", None, "A text.") == "hw-b6751db6809e2486bd08640ce0055619"


def test_another_python_process_with_another_hash_seed_gives_the_same_id() -> None:
    code = "from curation.document import doc_id_of; print(doc_id_of('s', 'u', 't'))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }

    assert seen == {doc_id_of("s", "u", "t") + "\n"}


@pytest.mark.parametrize(
    "other", [("t", "u", "x"), ("s", "v", "x"), ("s", None, "x"), ("s", "u", "y"), ("s", "u", "x "), ("su", "", "x")]
)
def test_source_url_and_text_all_count(other: tuple[str, str | None, str]) -> None:
    assert doc_id_of(*other) != doc_id_of("s", "u", "x")


def test_no_url_is_the_empty_url() -> None:
    assert doc_id_of("s", None, "x") == doc_id_of("s", "", "x")


@given(st.text(), st.none() | st.text(), st.text())
def test_any_text_has_an_id_even_one_that_is_no_valid_unicode(source: str, url: str | None, text: str) -> None:
    found = doc_id_of(source, url, text + "\ud800")

    assert found == doc_id_of(source, url, text + "\ud800")
    assert found.startswith("hw-")
    assert len(found) == 35
    assert set(found[3:]) <= set("0123456789abcdef")


def test_a_removed_document_carries_the_columns_of_a_document_and_its_reasons() -> None:
    assert REMOVED.names == [*DOCUMENTS.names, "reasons"]
    assert [field.name for field in REASON] == ["code", "signal", "value", "threshold", "start", "end"]
    assert VERDICTS == ("keep", "redact", "drop", "quarantine")
