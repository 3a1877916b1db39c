"""Decontamination: what counts as an item, what counts as found, and the planted items of the known-truth corpus."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard

from curation.errors import ConfigError
from curation.filters.evaluation_items import read_evaluation_texts, texts_of
from tests.unit.filters.measuring import codes, measured

REPO = Path(__file__).resolve().parents[3]
ITEMS = str(REPO / "tests/data/evaluation_items.jsonl")
DATA = REPO.parent / "shared" / "data"
LONG = (
    "A lighthouse keeper counted the ships that passed every night for forty years, and wrote their names in a ledger "
    "with a green cover."
)  # 24 words: 12 13-grams


def test_coverage_is_the_share_of_the_items_ngrams() -> None:
    words = LONG.split()
    halves = [LONG, " ".join(words[:19]), " ".join(words[:13]), " ".join(words[:12]), "Nothing of the kind."]
    found = measured("decontamination", halves, files=[ITEMS])
    assert found["coverage"] == [12 / 12, 7 / 12, 1 / 12, 0.0, 0.0]
    assert found["item"] == ["evaluation_items:long"] * 3 + [None] * 2
    assert codes("decontamination", halves, files=[ITEMS]) == [["contaminated"], ["contaminated"], [], [], []]


def test_a_short_item_is_found_only_as_a_whole() -> None:
    texts = [
        "he said: SEVEN grey geese... crossed the hill, at noon",
        "seven grey geese crossed the hill at",
        "seven grey and white geese crossed the hill at noon",
        "it is what it is",
    ]
    assert measured("decontamination", texts, files=[ITEMS])["coverage"] == [1.0, 0.0, 0.0, 0.0]


def test_min_item_words_decides_which_items_are_looked_for() -> None:
    assert measured("decontamination", ["it is what it is"], files=[ITEMS], min_item_words=5)["coverage"] == [1.0]
    assert measured("decontamination", ["seven grey geese crossed the hill at noon"], files=[ITEMS], min_item_words=9)[
        "coverage"
    ] == [0.0]


def test_two_items_in_one_document_are_both_marked() -> None:
    text = "é " + LONG + " Then seven grey geese crossed the hill at noon."
    spans = measured("decontamination", [text], files=[ITEMS])["matches"][0]
    assert [(text[s["start"] : s["end"]], s["label"]) for s in spans] == [
        (LONG.rstrip("."), "evaluation_items:long"),
        ("seven grey geese crossed the hill at noon", "evaluation_items:hill"),
    ]


def test_a_record_gives_its_strings_and_every_context_with_every_completion() -> None:
    record = {"id": "x", "query": "Q one", "choices": ["a", "b"], "gold": 1, "note": {"deep": ["c\n\nd"]}}
    assert texts_of(record, None) == ["Q one a", "Q one b", "Q one", "a", "b", "c", "d"]
    assert texts_of(record, ("query",)) == ["Q one"]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".txt"])
def test_evaluation_files_are_read_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    content = b'{"id": 7, "text": "one"}\n' if "json" in suffix else b"one\n\ntwo"
    path = tmp_path / f"items{suffix}"
    if suffix.endswith(".gz"):
        content = gzip.compress(content)
    elif suffix.endswith(".zst"):
        content = zstandard.ZstdCompressor().compress(content)
    path.write_bytes(content)
    found = [(t.item, t.text) for t in read_evaluation_texts((str(tmp_path / "items*"),), None)]
    assert found == ([("items:7", "one")] if "json" in suffix else [("items:#0", "one"), ("items:#1", "two")])


@pytest.mark.parametrize("content", [b"not json\n", b"[1]\n", b"\xff\n"])
def test_a_broken_evaluation_file_is_a_config_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.jsonl"):
        read_evaluation_texts((str(path),), None)


def test_a_missing_evaluation_file_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl"):
        codes("decontamination", ["x"], files=[str(tmp_path / "nowhere.jsonl")])


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(file)
        return [json.loads(line) for line in io.TextIOWrapper(stream, encoding="utf-8")]


def test_planted_items_are_found_and_natural_documents_are_not() -> None:
    truth = {row["id"]: row for row in rows("known_truth/truth.jsonl.zst")}
    docs = rows("known_truth/docs.jsonl.zst")
    names = ("stereoset_pairs", "hellaswag_first", "blimp_200", "piqa")
    files = [str(DATA / f"eval/{name}.jsonl.zst") for name in names]
    found = codes("decontamination", [doc["text"] for doc in docs], files=files)
    kinds: dict[str, list[bool]] = {"verbatim": [], "verbatim short": [], "edited": [], "natural": []}
    for doc, reasons in zip(docs, found, strict=True):
        row = truth[doc["id"]]
        kind = row["kind"].removeprefix("contamination_")
        if kind == "verbatim" and len(re.findall(r"\w+", row["item"])) < 13:
            kind = "verbatim short"
        kinds[kind if kind in kinds else "natural"].append(bool(reasons))
    share = {kind: sum(flags) / len(flags) for kind, flags in kinds.items()}
    # Measured: 1.0, 1.0, 0.738, 0.0.
    assert share["verbatim"] >= 0.98
    assert share["verbatim short"] >= 0.98
    assert share["edited"] >= 0.7
    assert share["natural"] <= 0.0005
