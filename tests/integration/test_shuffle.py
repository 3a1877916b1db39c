"""What goes through a shuffle, byte by byte: hashes and row numbers of documents, never their text.

Beam's local runner keeps all that a GroupByKey gets in one kind of buffer; here that buffer is listened to while whole
jobs run, with the duplicate search sending its hashes as it does on a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ahocorasick
import pyarrow.parquet as pq
import pytest
import zstandard
from apache_beam.runners.portability.fn_api_runner.execution import GroupingBuffer
from jobs import digests, manifest_of, run_job

from beam_jobs import bands

pytestmark = pytest.mark.integration
SAMPLE = sorted((Path(__file__).resolve().parents[2] / "examples" / "sample_corpus").glob("[!t]*.*"))
MOST_BYTES_A_DOCUMENT = 300  # 15 columns of 16 bytes are 240; the rest is Beam's framing and the lists of tasks
WINDOW = 24  # bytes of a text that do not stand elsewhere by accident


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Everything that GroupByKeys get, as the runner gets it."""
    heard: list[bytes] = []
    append = GroupingBuffer.append

    def listen(buffer: Any, elements_data: bytes) -> None:
        heard.append(bytes(elements_data))
        append(buffer, elements_data)

    monkeypatch.setattr(GroupingBuffer, "append", listen)
    return heard


@pytest.fixture
def as_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "_scan", bands._shuffle)


def texts_of(run: Path) -> list[bytes]:
    return [
        text.encode()
        for path in sorted((run / "documents").glob("*.parquet"))
        for text in pq.read_table(path, columns=["text"])["text"].to_pylist()
    ]


def found_in(texts: list[bytes], blob: bytes) -> set[bytes]:
    """Windows of the texts that stand in `blob`: the first, the middle and the last of each text."""
    automaton = ahocorasick.Automaton()
    for text in texts:
        for start in (0, max(0, len(text) // 2 - WINDOW // 2), max(0, len(text) - WINDOW)):
            window = text[start : start + WINDOW]
            if len(window) == WINDOW:
                automaton.add_word(window.decode("latin-1"), window)
    automaton.make_automaton()
    return {window for _, window in automaton.iter(blob.decode("latin-1"))}


def check(run: Path, shuffled: list[bytes]) -> None:
    documents, texts, blob = manifest_of(run)["documents"], texts_of(run), b"".join(shuffled)
    print(f"{len(blob) / documents:.1f} bytes shuffled a document")
    assert len(texts) == documents > 1000
    assert 15 * 16 * documents <= len(blob) <= MOST_BYTES_A_DOCUMENT * documents
    assert found_in(texts, blob) == set()
    assert len(found_in(texts, blob + texts[0])) >= 1, "a text among the bytes would be found"


def test_the_sample_job_shuffles_at_most_300_bytes_a_document_and_no_text(
    tmp_path: Path, shuffled: list[bytes], as_on_a_cluster: None
) -> None:
    run = run_job(SAMPLE, tmp_path, arms=["raw", "dedup_only", "blocklist", "toxicity", "curated", "sampled"])

    check(run, shuffled)


def test_the_known_truth_shuffles_at_most_300_bytes_a_document_and_no_text(
    tmp_path: Path, shuffled: list[bytes], as_on_a_cluster: None, data: Path
) -> None:
    run = run_job([data / "known_truth/docs.jsonl.zst"], tmp_path, arms=["raw", "dedup_only"])

    check(run, shuffled)
    # The hashes that were sent are enough: what was planted is found.
    with zstandard.open(data / "known_truth/truth.jsonl.zst", "rt", encoding="utf-8") as lines:
        exact = {row["id"] for row in map(json.loads, lines) if row["kind"] == "exact_dup"}
    # Of a copy and its original one stays, whichever: as many are removed as copies were planted, at least.
    assert manifest_of(run)["dedup"]["exact"] >= len(exact) > 1000


def test_on_one_machine_no_hash_is_shuffled_at_all(tmp_path: Path, shuffled: list[bytes]) -> None:
    run = run_job(SAMPLE, tmp_path, arms=["dedup_only"])

    assert sum(map(len, shuffled)) < 25 * manifest_of(run)["documents"]  # the lists of tasks


def test_hashes_sent_and_hashes_scanned_give_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = run_job(SAMPLE[:3], tmp_path / "earlier", arms=["dedup_only"])

    def run(name: str, **given: Any) -> dict[str, str]:
        return digests(run_job(SAMPLE, tmp_path / name, arms=["dedup_only"], **given))

    def both(name: str) -> tuple[dict[str, str], dict[str, str]]:
        """On its own, and against an earlier run of half of the files."""
        return run(name), run(f"{name}-against", dedup={"against": [str(earlier)]})

    scanned = both("scanned")
    monkeypatch.setattr(bands, "_scan", bands._shuffle)
    sent = both("sent")
    # Pieces, partitions, ranges and reductions as a corpus of a thousand million documents would have them.
    monkeypatch.setattr(bands, "PARTITION_ROWS", 100)
    monkeypatch.setattr(bands, "MOST_PARTITIONS", 8)
    monkeypatch.setattr(bands, "SHUFFLED_ROWS", 3000)
    monkeypatch.setattr(bands, "EDGES_AT_ONCE", 50)
    in_pieces = both("pieces")
    monkeypatch.undo()
    monkeypatch.setattr(bands, "SCANNED_ROWS", 300)
    monkeypatch.setattr(bands, "EDGES_AT_ONCE", 50)
    in_ranges = both("ranges")

    assert scanned[0] != scanned[1]
    assert scanned == sent == in_pieces == in_ranges
