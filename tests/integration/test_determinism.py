"""The same documents and the same job give the same bytes, however they are read and run."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from jobs import CHEAP_ARMS, copies, corpus, deal, digests, kept_ids, manifest_of, rows_of, run_job, write_jsonl

import beam_jobs.curate

pytestmark = pytest.mark.integration
ALL_ARMS = [*CHEAP_ARMS, "blocklist", "toxicity", "sentence", "curated", "masked", "sampled"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deal(tmp_path_factory.mktemp("corpus"), corpus(), 4)


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_job([folder / "*.jsonl"], tmp_path_factory.mktemp("reference"))


def test_the_corpus_of_these_tests_has_copies_of_both_kinds_and_every_verdict(reference: Path) -> None:
    arms = manifest_of(reference)["arms"]

    assert {row["kind"] for row in copies(reference).values()} == {"exact", "near"}
    assert arms["tidy"]["redacted"] > 0
    found = {"dedup.exact_duplicate", "dedup.near_duplicate", "gopher_quality.too_few_words"}
    assert found <= set(arms["tidy"]["removed_by"])
    assert arms["drawn"]["removed_by"]["sample.matched_removal"] > 0


def test_a_second_run_writes_the_same_bytes(folder: Path, reference: Path, tmp_path: Path) -> None:
    assert digests(run_job([folder / "*.jsonl"], tmp_path)) == digests(reference)


def test_the_order_in_which_inputs_are_listed_leaves_no_trace(folder: Path, reference: Path, tmp_path: Path) -> None:
    files = sorted(folder.glob("*.jsonl"))
    random.Random(1).shuffle(files)

    assert digests(run_job(files, tmp_path)) == digests(reference)


def test_two_workers_write_the_bytes_of_one(folder: Path, reference: Path, tmp_path: Path) -> None:
    assert digests(run_job([folder / "*.jsonl"], tmp_path, workers=2)) == digests(reference)


def test_worker_processes_write_the_bytes_of_one_process_with_every_classifier_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run_job([folder / "*.jsonl"], tmp_path / "alone", arms=ALL_ARMS)
    monkeypatch.setattr(beam_jobs.curate, "PROCESSES_FROM_BYTES", 0)
    together = run_job([folder / "*.jsonl"], tmp_path / "together", arms=ALL_ARMS, workers=2)

    assert digests(together) == digests(alone)


def test_the_folder_of_the_corpus_and_of_the_output_leave_no_trace(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        (tmp_path / "deep" / "moved").mkdir(parents=True, exist_ok=True)
        (tmp_path / "deep" / "moved" / path.name).write_bytes(path.read_bytes())

    run = run_job([tmp_path / "deep" / "moved" / "*.jsonl"], tmp_path / "out")

    assert run.name == reference.name
    assert digests(run) == digests(reference)


def test_nothing_published_names_this_machine(reference: Path, folder: Path) -> None:
    report = (reference / "report.html").read_text(encoding="utf-8")

    assert str(folder) not in report
    assert not re.search(r"https?://(?!e\.org)", report)


@pytest.mark.parametrize("files", [1, 3, 7])
def test_who_is_a_copy_of_whom_does_not_depend_on_the_file_a_document_lies_in(
    reference: Path, tmp_path: Path, files: int
) -> None:
    run = run_job([deal(tmp_path / "dealt", corpus(), files, seed=files) / "*.jsonl"], tmp_path / "out")

    assert copies(run) == copies(reference)
    for arm in ("raw", "dedup_only", "tidy", "drawn"):
        assert sorted(kept_ids(run, arm)) == sorted(kept_ids(reference, arm))
    decided = {(row["ruleset"], row["doc_id"]): row for row in rows_of(run, "decisions")}
    assert decided == {(row["ruleset"], row["doc_id"]): row for row in rows_of(reference, "decisions")}


def test_a_corpus_read_in_small_batches_has_the_same_documents_and_decisions(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    run = run_job([folder / "*.jsonl"], tmp_path, reading={"batch_documents": 7})

    assert copies(run) == copies(reference)
    for table in ("documents", "signals", "decisions"):
        rows = {tuple(row.get(k) for k in ("doc_id", "ruleset")): row for row in rows_of(run, table)}
        assert rows == {tuple(row.get(k) for k in ("doc_id", "ruleset")): row for row in rows_of(reference, table)}


def test_documents_without_ids_get_the_same_ones_wherever_they_lie(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "id"} for row in corpus(40)]
    once = run_job([write_jsonl(tmp_path / "one" / "all.jsonl", rows)], tmp_path / "out-1", arms=["raw"])
    again = run_job([deal(tmp_path / "many", rows, 5) / "*.jsonl"], tmp_path / "out-2", arms=["raw"])

    assert sorted(kept_ids(once, "raw")) == sorted(kept_ids(again, "raw"))


def test_how_documents_are_stored_changes_nothing_else(folder: Path, reference: Path, tmp_path: Path) -> None:
    """Uncompressed where they are read again at once; zstd for those who would rather have the room."""
    packed = run_job([folder / "*.jsonl"], tmp_path, documents_compression="zstd")
    codecs = {}
    for run in (reference, packed):
        text = pq.ParquetFile(run / "documents/part-00000.parquet").metadata.row_group(0).column(1)
        codecs[text.path_in_schema, text.compression] = None
    other = {"manifest.json", "report.html"}

    assert list(codecs) == [("text", "UNCOMPRESSED"), ("text", "ZSTD")]
    assert rows_of(packed, "documents") == rows_of(reference, "documents")
    assert {k: v for k, v in digests(packed).items() if k not in other and not k.startswith("documents/")} == {
        k: v for k, v in digests(reference).items() if k not in other and not k.startswith("documents/")
    }
