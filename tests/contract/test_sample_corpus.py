"""The bundled corpus is what its script writes, and what its truth file says."""

import gzip
import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CORPUS = EXAMPLES / "sample_corpus"


@pytest.fixture(scope="module")
def maker() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module("make_sample_corpus")
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def rows(maker: ModuleType) -> list[Any]:
    return list(maker.documents())


def content(path: Path) -> object:
    """What a file holds once decompressed: the bytes of compressors differ between their versions."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompress(path.read_bytes())
    return pq.read_table(path).to_pydict() if path.suffix == ".parquet" else path.read_bytes()


def test_the_committed_files_are_what_the_script_writes(maker: ModuleType, tmp_path: Path) -> None:
    maker.main(tmp_path / "sample_corpus")

    written = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    committed = sorted(p.relative_to(EXAMPLES) for p in [*CORPUS.iterdir(), EXAMPLES / "sample_eval.jsonl"])
    assert written == committed
    for path in written:
        assert content(tmp_path / path) == content(EXAMPLES / path), f"{path}: run `make sample`"


def test_writing_it_twice_gives_the_same_bytes(maker: ModuleType, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        maker.main(tmp_path / folder / "sample_corpus")

    first, second = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second


def test_it_is_small_enough_to_be_committed() -> None:
    assert sum(p.stat().st_size for p in CORPUS.iterdir()) < 1_500_000


def test_the_truth_names_every_document_once(rows: list[Any]) -> None:
    truth = [json.loads(line) for line in (CORPUS / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    ids = [line["id"] for line in truth if "id" in line]

    assert 3_000 <= len(truth) <= 4_000
    assert len(set(ids)) == len(ids)
    assert set(ids) == {row.id for row in rows}
    assert Counter(line["kind"] for line in truth if "id" in line) == Counter(row.kind for row in rows)


def test_no_two_natural_documents_resemble_each_other_by_accident(rows: list[Any]) -> None:
    from sample_plants import shingles

    sets = [shingles(row.text) for row in rows if row.kind in {"natural", "other_language"} and row.lang != "zh"]
    where: dict[str, list[int]] = {}
    for i, grams in enumerate(sets):
        for gram in grams:
            where.setdefault(gram, []).append(i)
    worst = 0.0
    for i, grams in enumerate(sets):
        shared = Counter(j for gram in grams for j in where[gram] if j > i)
        for j, n in shared.items():
            worst = max(worst, n / (len(grams) + len(sets[j]) - n))

    assert worst < 0.5


def test_edited_copies_have_the_similarity_they_are_said_to_have(rows: list[Any]) -> None:
    from sample_plants import jaccard

    text = {row.id: row.text for row in rows}
    for row in rows:
        if "jaccard" in row.truth:
            found = jaccard(row.text, text[row.truth["of"]])
            assert found == pytest.approx(row.truth["jaccard"], abs=1e-6)
            if row.kind == "near_dup":
                assert 0.85 <= found < 1.0, row.id
            if row.kind == "hard_negative":
                assert found < 0.6, row.id


def test_every_evaluation_item_has_thirteen_words_or_more_and_stands_in_two_documents(rows: list[Any]) -> None:
    items = [json.loads(line) for line in (EXAMPLES / "sample_eval.jsonl").read_text(encoding="utf-8").splitlines()]

    assert min(len(item["text"].split()) for item in items) >= 13
    assert [sum(item["text"] in row.text for row in rows) for item in items] == [2] * len(items)
    assert {item["id"] for item in items} == {row.truth["item"] for row in rows if row.kind == "contamination"}
