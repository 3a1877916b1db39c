"""Our rules give the numbers of other implementations, where the definitions agree.

`tests/data/oracle_datatrove.json` holds what datatrove 0.10.1 says of our own texts in `oracle_texts.json`;
`benchmarks/oracle_datatrove.py --golden` makes it, and compares thousands of real documents.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.filters import FILTERS
from curation.filters.base import DocumentBatch
from curation.kernels.text_batch import TextBatch

REPO = Path(__file__).resolve().parents[3]
KIT = REPO.parent / "shared" / "data" / "formats" / "data_prep_kit"
TEXTS: list[str] = json.loads((REPO / "tests/data/oracle_texts.json").read_text(encoding="utf-8"))
GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(
    (REPO / "tests/data/oracle_datatrove.json").read_text(encoding="utf-8")
)
FILTER_NAMES = ("gopher_quality", "gopher_repetition", "fineweb", "c4", "c4_sentences")


def ours(tokeniser: str) -> list[dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("oracle_datatrove", REPO / "benchmarks/oracle_datatrove.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    numbers: list[dict[str, Any]] = module.headwater_numbers(TEXTS, tokeniser)
    return numbers


def test_every_number_of_datatrove_over_the_same_words_is_ours() -> None:
    numbers = ours("split")
    for text, theirs, mine in zip(TEXTS, GOLDEN["split"], numbers, strict=True):
        fractions = {key: value for key, value in theirs.items() if key.endswith("_fraction")}
        assert {key: mine[key] for key in fractions} == fractions, text


@pytest.mark.parametrize("name", FILTER_NAMES)
def test_every_verdict_of_datatrove_over_the_same_words_is_ours(name: str) -> None:
    assert [bool(row[name]) for row in ours("split")] == [bool(row[name]) for row in GOLDEN["split"]]


def test_the_text_that_the_c4_lines_leave_is_that_of_datatrove() -> None:
    assert [row["c4_text"] for row in ours("split")] == [row["c4_text"] for row in GOLDEN["split"]]


def kit_rows(annotator: str) -> tuple[list[dict[str, Any]], DocumentBatch]:
    path = KIT / annotator / "expected" / "test1.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    rows = pq.read_table(path).to_pylist()
    return rows, DocumentBatch(TextBatch.of([row["text"] for row in rows]), None)


def test_line_repetition_is_that_of_data_prep_kit() -> None:
    rows, batch = kit_rows("gopher_repetition_annotator")
    chosen = FILTERS.get("gopher_repetition")
    columns = chosen.measure(batch, chosen.settings_type())
    for theirs, mine in {
        "dup_line_frac": "duplicate_line_fraction",
        "dup_para_frac": "duplicate_paragraph_fraction",
        "dup_line_char_frac": "duplicate_line_char_fraction",
        "dup_para_char_frac": "duplicate_paragraph_char_fraction",
    }.items():
        assert columns[mine].to_pylist() == [row[theirs] for row in rows]


def test_ngram_repetition_is_near_that_of_data_prep_kit() -> None:
    # It cuts words with NLTK's tokeniser, we approximate spaCy's: the characters counted differ a little.
    rows, batch = kit_rows("gopher_repetition_annotator")
    chosen = FILTERS.get("gopher_repetition")
    columns = chosen.measure(batch, chosen.settings_type(words="datatrove"))
    pairs = {f"top_{n}_grams": f"top_{n}_gram_char_fraction" for n in (2, 3, 4)}
    pairs |= {f"dup_{n}_grams": f"duplicate_{n}_gram_char_fraction" for n in range(5, 11)}
    for theirs, mine in pairs.items():
        assert columns[mine].to_pylist() == pytest.approx([row[theirs] for row in rows], abs=0.1)


def test_fineweb_line_numbers_are_those_of_data_prep_kit() -> None:
    rows, batch = kit_rows("fineweb_quality_annotator")
    chosen = FILTERS.get("fineweb")
    columns = chosen.measure(batch, chosen.settings_type())
    for theirs, mine in {
        "frac_line_punct": "end_punctuated_lines_fraction",
        "short_line_frac": "short_lines_fraction",
        "dup_line_char_frac": "duplicate_line_char_fraction",
    }.items():
        assert columns[mine].to_pylist() == [row[theirs] for row in rows]


def test_c4_line_counts_and_reasons_are_those_of_data_prep_kit() -> None:
    # Its C4 takes datatrove's defaults; rows that fall by mC4's paragraph rule, or stop in the middle of a page
    # (lorem ipsum, curly bracket), have counts of the part it read.
    rows, batch = kit_rows("c4_annotator")
    chosen = FILTERS.get("c4")
    settings = chosen.settings_type(end_marks=".?!\"'", min_words_per_line=3, min_sentences=5, max_chars=None)
    columns = chosen.measure(batch, settings)
    reasons: list[list[str]] = [[] for _ in rows]
    for finding in chosen.judge({f"c4.{k}": v for k, v in columns.items()}, settings, "c4"):
        for row in finding.rows.tolist():
            reasons[row].append(finding.code.removeprefix("c4."))
    labels = {
        "no_terminal_punc": "no_end_mark",
        "too_few_words": "too_few_words",
        "javascript": "javascript",
        "policy": "policy",
        "too_long_word": "long_word",
    }
    for number, row in enumerate(rows):
        stopped = row["drop_reason"] in {"drop_lorem_ipsum", "drop_curly_bracket"}
        if stopped:
            assert row["drop_reason"].removeprefix("drop_") in reasons[number]
            continue
        stats = json.loads(row["doc_stats"])
        found = [span["label"] for span in columns["bad_line_spans"][number].as_py()]
        assert {label: found.count(label) for label in labels.values()} == {
            label: stats.get(f"line-filter-{name}", 0) for name, label in labels.items()
        }
        assert ("too_few_sentences" in reasons[number]) == (row["drop_reason"] == "drop_too_few_sentences")
