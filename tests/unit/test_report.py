"""report.html: self-contained, escaped, masked, the same for the same run wherever it lies."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import WORD, build_run

from curation.finished_run import load_run
from curation.marked_text import Piece
from curation.report import render_report
from curation.report_plots import histogram, ratios, stacked
from curation.report_sections import html_of
from curation.sources.base import LocalFiles


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("reported"))


def render(run: Path) -> str:
    manifest = json.loads((run / "manifest.json").read_text())
    return render_report(str(run), manifest, LocalFiles())


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return render(run)


class Tags(HTMLParser):
    """Every tag and attribute, and that tags are closed in order."""

    VOID = frozenset({"meta", "br", "rect", "line", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


def test_the_page_is_well_formed(tags: Tags) -> None:
    assert tags.open == []


def test_a_script_in_a_document_is_text_on_the_page(page: str, tags: Tags) -> None:
    assert "script" not in tags.seen
    assert "&lt;script&gt;alert(&#x27;owned&#x27;)&lt;/script&gt;" in page


def test_nothing_is_fetched_and_nothing_runs(page: str, tags: Tags) -> None:
    assert tags.seen & {"link", "img", "iframe", "object", "embed", "base", "form"} == set()
    assert [value for name, value in tags.attributes if name in {"src", "srcset", "action", "data"}] == []
    assert [value for name, value in tags.attributes if name == "href" and not value.startswith("#")] == []
    assert [name for name, _ in tags.attributes if name.startswith("on")] == []
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_listed_abuse_and_personal_data_are_masked(page: str) -> None:
    assert WORD not in page
    assert "jane.roe@example.org" not in page


def test_the_page_names_neither_the_machine_nor_the_clock(page: str, run: Path) -> None:
    assert str(run.parent) not in page
    assert "/somewhere/" not in page
    assert not re.search(r"\b20\d\d-\d\d-\d\d", page)


def test_the_same_run_elsewhere_gives_the_same_page(page: str, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "moved")
    manifest = json.loads((run / "manifest.json").read_text())
    for entry in manifest["passes"]:
        entry["wall_s"] = 99.0
    manifest["inputs"][0]["uri"] = "/elsewhere/input.jsonl"

    assert render_report(str(tmp_path / "moved"), manifest, LocalFiles()) == page


def test_every_arm_reason_and_section_is_there(page: str) -> None:
    for section in ("arms", "reasons", "samples", "flagged", "dedup", "distributions", "audit", "provenance"):
        assert f'id="{section}"' in page
    for arm in ("raw", "blocklist", "curated"):
        assert f"<b>{arm}</b>" in page
    for code in ("context.use", "blocklist.listed_word", "dedup.near_duplicate", "pii.email", "context.failed"):
        assert f"<code>{code}</code>" in page
    assert "a note &lt;b&gt;" in page
    assert "<code>not-json</code>" in page


def test_a_sample_marks_the_stretch_that_gave_the_reason(page: str) -> None:
    assert '<mark title="context.use">b****</mark>' in page
    assert '<mark title="insult: quotation">b****</mark>' in page


def test_a_redacted_sample_shows_what_the_arm_carries(page: str) -> None:
    assert "as the arm carries it" in page
    assert "Questions go to" in page


def test_a_near_duplicate_marks_the_differing_word_on_both_sides(page: str) -> None:
    assert '<mark title="only here">last</mark>' in page
    assert '<mark title="only here">first</mark>' in page


def test_an_empty_run_still_has_a_page(run: Path) -> None:
    manifest: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    empty = {**manifest, "shards": 0, "documents": 0, "dead_letters": 0, "dedup": {}, "inputs": []}

    assert "No arm looks for duplicates." in render_report(str(run), empty, LocalFiles())


def test_a_large_run_is_sampled_from_row_groups_spread_over_it(run: Path) -> None:
    found = load_run(str(run))

    assert found.spread(8) == {0: [0, 1], 1: [0, 1]}  # all of its eight documents
    assert found.spread(4) == {0: [1], 1: [0]}
    assert found.spread(1) in ({0: [1]}, {1: [0]})
    assert found.rows_in(0, [1]).tolist() == [2, 3, 4]


def test_pieces_are_escaped_text_and_label() -> None:
    pieces = [Piece("<b>"), Piece("&", ('"x"',)), Piece("…", is_gap=True)]

    assert html_of(pieces) == (
        '<div class="text" dir="auto">&lt;b&gt;<mark title="&quot;x&quot;">&amp;</mark><span class="gap">…</span></div>'
    )


def test_a_histogram_has_a_bar_for_each_bin_that_is_not_empty() -> None:
    plot = histogram(np.array([4, 0, 2]), np.array([2, 0, 0]), [(0, "0")], "title")

    assert plot.count('class="all"') == 2
    assert plot.count('class="arm"') == 1


def test_ratios_beyond_the_axis_stay_inside_and_missing_ones_say_so() -> None:
    plot = ratios([("a", 100.0, 20.0, None), ("b", None, None, None), ("c", 0.5, 0.4, 0.9)], "title")

    assert 'class="over"' in plot
    assert 'class="under"' in plot
    assert "no removals in the reference" in plot


def test_a_stack_without_documents_is_empty() -> None:
    assert stacked([("keep", 0)], 0) == '<span class="stack"></span>'
