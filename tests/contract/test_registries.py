"""Every reason code of every filter has a golden row, every signal a column of its type, every preset a meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from curation.document import DOCUMENTS
from curation.filters import FILTERS
from curation.filters.base import DocumentBatch, arrow_type
from curation.kernels.text_batch import TextBatch
from curation.ruleset import load_ruleset, shipped_rulesets
from curation.settings import parse

REPO = Path(__file__).resolve().parents[2]
ROWS: list[dict[str, Any]] = yaml.safe_load((REPO / "tests/data/golden_rows.yaml").read_text(encoding="utf-8"))
# Settings a filter cannot do without, to list its codes.
REQUIRED_SETTINGS = {"decontamination": {"files": ["tests/data/evaluation_items.jsonl"]}}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)  # golden rows name files relative to it


def settings_of(name: str, given: dict[str, Any] | None = None) -> Any:
    chosen = FILTERS.get(name)
    return parse(chosen.settings_type, given or REQUIRED_SETTINGS.get(name, {}), "golden row", f"filter `{name}`")


def batch_of(text: str, url: str | None) -> DocumentBatch:
    table = pa.table(
        {"doc_id": ["1"], "text": [text], "source": ["golden"], "url": [url], "metadata": pa.nulls(1, pa.string())},
        schema=DOCUMENTS,
    )
    return DocumentBatch(TextBatch(table.column("text")), table)


def signals_of(row: dict[str, Any], settings: Any) -> dict[str, pa.Array]:
    """The signals of a row by full name: measured, or as the row states them with null for the rest."""
    chosen = FILTERS.get(row["filter"])
    if "text" in row:
        measured = chosen.measure(batch_of(row["text"], row.get("url")), settings)
        return {f"{chosen.name}.{name}": column for name, column in measured.items()}
    given = row["signals"]
    return {f"{chosen.name}.{s.name}": pa.array([given.get(s.name)], arrow_type(s.dtype)) for s in chosen.signals}


def row_id(row: dict[str, Any]) -> str:
    return f"{row['filter']}: {row['why']}"


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_golden_row_gets_exactly_its_reasons(row: dict[str, Any]) -> None:
    chosen = FILTERS.get(row["filter"])
    settings = settings_of(row["filter"], row.get("settings"))
    findings = chosen.judge(signals_of(row, settings), settings, chosen.name)
    assert [finding.code for finding in findings] == [f"{chosen.name}.{code}" for code in row["codes"]]
    if "text" not in row:
        return
    marked = {
        finding.code.removeprefix(f"{chosen.name}."): [
            [row["text"][span["start"] : span["end"]], span["label"]] for span in next(iter(finding.spans)).as_py()
        ]
        for finding in findings
        if finding.spans is not None
    }
    assert marked == row.get("marked", {})


@pytest.mark.parametrize("name", FILTERS.names())
def test_every_reason_code_has_a_golden_row(name: str) -> None:
    rows = [row for row in ROWS if row["filter"] == name]
    shown = {code for row in rows for code in row["codes"]}
    known = {bound.code for bound in FILTERS.get(name).bounds(settings_of(name))}
    for row in rows:
        known |= {bound.code for bound in FILTERS.get(name).bounds(settings_of(name, row.get("settings")))}
    assert known - shown == set(), f"filter `{name}` has codes without a row in tests/data/golden_rows.yaml"


@pytest.mark.parametrize("name", FILTERS.names())
def test_every_bound_reads_signals_that_the_filter_declares(name: str) -> None:
    chosen = FILTERS.get(name)
    settings = settings_of(name)
    declared = {signal.name: signal.dtype for signal in chosen.signals}
    for bound in chosen.bounds(settings):
        assert declared.get(bound.signal) not in (None, "string", "spans", "mentions")
        assert bound.spans is None or declared[bound.spans] == "spans"
        assert bound.description
    assert chosen.needed(settings) <= set(declared)
    assert set(chosen.measured_by) <= set(chosen.settings_type.model_fields)
    assert chosen.name == name
    assert chosen.summary
    assert "\n" not in chosen.summary


MEASURED_HERE = sorted({row["filter"] for row in ROWS if "text" in row})


@pytest.mark.parametrize("texts", [[], ["", "a\n", "日本語 ☕\r\n\u2028"]], ids=["no documents", "odd documents"])
@pytest.mark.parametrize("name", MEASURED_HERE)
def test_measure_gives_every_signal_one_value_a_document(name: str, texts: list[str]) -> None:
    table = pa.table(
        {
            "doc_id": [str(k) for k in range(len(texts))],
            "text": texts,
            "source": ["x"] * len(texts),
            "url": [None] * len(texts),
            "metadata": [None] * len(texts),
        },
        schema=DOCUMENTS,
    )
    chosen = FILTERS.get(name)
    columns = chosen.measure(DocumentBatch(TextBatch(table.column("text")), table), settings_of(name))
    assert {k: (v.type, len(v)) for k, v in columns.items()} == {
        signal.name: (arrow_type(signal.dtype), len(texts)) for signal in chosen.signals
    }
    for signal in chosen.signals:
        assert signal.dtype == "string" or columns[signal.name].null_count == 0


@pytest.mark.parametrize("name", shipped_rulesets())
def test_every_shipped_ruleset_resolves_under_its_own_name(name: str) -> None:
    ruleset = load_ruleset(name)
    assert (ruleset.name, bool(ruleset.summary)) == (name, True)
