"""What reads a finished run, on one that the real passes made: verified, inspected, audited, reported, tokenised."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from jobs import corpus, digests, kept_ids, manifest_of, rows_of, run_job, write_jsonl

from curation.cli import main
from curation.errors import ConfigError
from curation.report import render_report
from curation.sources.base import LocalFiles

pytestmark = pytest.mark.integration
tokenizers = pytest.importorskip("tokenizers")

END = "<|endoftext|>"
SCRIPT = {
    "id": "script",
    "text": "<script>alert(1)</script> write to eve@mail.org " + "and so on and on. " * 8,
    "source": "web",
}


def save_tokenizer(path: Path) -> Path:
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=[END], initial_alphabet=alphabet)
    inner.train_from_iterator([row["text"] for row in corpus(50)], trainer)
    inner.save(str(path))
    return path


def make_inputs(folder: Path) -> list[Path]:
    """Three files: documents, documents with a script and a broken line, and one without a single document."""
    return [
        write_jsonl(folder / "a.jsonl", corpus(200)),
        write_jsonl(folder / "b.jsonl", [*corpus(60, seed=1), SCRIPT, "{broken"]),
        write_jsonl(folder / "c.jsonl", ["not json"]),
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(run, tokenizer)."""
    folder = tmp_path_factory.mktemp("finished")
    tokenizer = save_tokenizer(folder / "tokenizer.json")
    limits = {"max_dead_fraction": 1.0}
    run = run_job(make_inputs(folder), folder / "runs", tokens={"tokenizer": str(tokenizer)}, limits=limits)
    return run, tokenizer


def tokens_of(run: Path, arm: str) -> list[list[int]]:
    """Every document of an arm's token shards, read as Megatron-LM reads them."""
    found = []
    for index in sorted((run / "tokens" / arm).glob("*.idx")):
        raw = index.read_bytes()
        magic, version, code, sequences, bounds = struct.unpack("<9sQBQQ", raw[:34])
        assert (magic, version, code, bounds) == (b"MMIDIDX\x00\x00", 1, 8, sequences + 1)
        sizes = np.frombuffer(raw, "<i4", sequences, 34)
        pointers = np.frombuffer(raw, "<i8", sequences, 34 + 4 * sequences)
        data = np.memmap(index.with_suffix(".bin"), mode="r")
        found += [np.frombuffer(data, "<u2", n, at).tolist() for n, at in zip(sizes, pointers, strict=True)]
    return found


def test_a_run_that_was_just_made_is_whole(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(made[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["ok"], found["problems"], found["documents"], found["shards_checked"]) == (True, [], 261, 3)


def test_every_arm_has_the_tokens_of_its_texts(made: tuple[Path, Path]) -> None:
    run, path = made
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    end = tokenizer.token_to_id(END)
    for arm in ("raw", "tidy", "drawn"):
        texts = [row["text"] for row in rows_of(run, f"arms/{arm}")]
        read = tokens_of(run, arm)
        assert [tokenizer.decode(ids[:-1]) for ids in read] == texts
        assert [ids[-1] for ids in read] == [end] * len(texts)


def test_the_manifest_counts_the_tokens_and_hashes_their_files(made: tuple[Path, Path]) -> None:
    run, _ = made
    manifest = manifest_of(run)
    tokens = manifest["tokens"]

    assert (tokens["format"], tokens["dtype"], tokens["text_end"]["token"]) == ("megatron", "uint16", END)
    for arm, entry in tokens["arms"].items():
        assert entry["documents"] == manifest["arms"][arm]["documents"]
        assert entry["tokens"] == sum(map(len, tokens_of(run, arm)))
        assert sorted(f["path"] for f in entry["files"]) == sorted(
            str(p.relative_to(run)) for p in (run / "tokens" / arm).iterdir()
        )


@pytest.mark.parametrize("name", ["tokens/raw/part-00000.bin", "dead_letter/part-00001.jsonl", "report.html"])
def test_a_flipped_byte_is_found_whatever_the_file(
    made: tuple[Path, Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made[0] / name
    content = path.read_bytes()
    try:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        assert main(["verify", str(made[0])]) == 3
        assert str(path) in capsys.readouterr().err
    finally:
        path.write_bytes(content)


def test_the_report_is_rendered_again_to_the_same_bytes_and_escapes_the_corpus(made: tuple[Path, Path]) -> None:
    run, _ = made
    written = (run / "report.html").read_text()
    manifest = manifest_of(run)
    order = ["raw", "dedup_only", "tidy", "drawn"]  # as the job names them; JSON has sorted the keys
    for key in ("arms", "conservation"):
        manifest[key] = {name: manifest[key][name] for name in order}

    assert render_report(str(run), manifest, LocalFiles()) == written
    assert "<script" not in written
    assert "eve@mail.org" not in written


def test_inspect_finds_the_redacted_document_and_what_the_arm_carries(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = made
    carried = {row["doc_id"]: row["text"] for row in rows_of(run, "arms/tidy")}
    assert main(["inspect", str(run), "--arm", "tidy", "--verdict", "redact", "-n", "100", "--json", "--unmask"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)

    assert found["documents"]
    assert {row["id"]: row["carried"] for row in found["documents"]} == {
        row["id"]: carried[row["id"]] for row in found["documents"]
    }
    assert "script" in {row["id"] for row in found["documents"]}


def test_inspect_duplicates_shows_texts_as_similar_as_it_says(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(made[0]), "--duplicates", "-n", "100", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["duplicates"]

    assert {row["kind"] for row in rows} == {"exact", "near"}
    assert all(row["text"] == row["other_text"] for row in rows if row["kind"] == "exact")


def test_audit_compares_the_two_sources(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(made[0]), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    copies = {row["doc_id"] for row in rows_of(made[0], "duplicates")}
    documents = [row for row in rows_of(made[0], "documents") if row["doc_id"] not in copies]
    kept = set(kept_ids(made[0], "tidy"))
    assert {"forum", "web"} >= {row["group"] for row in rows if row["kind"] == "source"} != set()
    for row in rows:
        if row["arm"] == "tidy" and row["kind"] == "source":
            mine = [d for d in documents if d["source"] == row["group"]]
            assert (row["documents"], row["removed"]) == (len(mine), sum(d["doc_id"] not in kept for d in mine))


def test_npy_shards_hold_the_same_ids(made: tuple[Path, Path], tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    settings = {"tokenizer": str(made[1]), "format": "npy"}
    run = run_job(inputs, tmp_path / "runs", tokens=settings, limits={"max_dead_fraction": 1.0})
    read: list[list[int]] = []
    for offsets_path in sorted((run / "tokens/tidy").glob("*.offsets.npy")):
        offsets = np.load(offsets_path)
        ids = np.load(str(offsets_path).replace(".offsets.npy", ".npy"))
        read += [ids[a:b].tolist() for a, b in pairwise(offsets)]

    assert read == tokens_of(made[0], "tidy")


def test_two_runs_of_one_job_have_the_same_report_and_tokens(made: tuple[Path, Path], tmp_path: Path) -> None:
    settings = {"tokenizer": str(made[1])}
    run = run_job(make_inputs(tmp_path), tmp_path / "runs", tokens=settings, limits={"max_dead_fraction": 1.0})

    assert digests(run)["report.html"] == digests(made[0])["report.html"]
    assert {p: d for p, d in digests(run).items() if p.startswith("tokens/")} == {
        p: d for p, d in digests(made[0]).items() if p.startswith("tokens/")
    }


def test_a_missing_tokenizer_is_refused_before_anything_runs(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    with pytest.raises(ConfigError, match="no-tokenizer"):
        run_job(inputs, tmp_path / "runs", tokens={"tokenizer": str(tmp_path / "nowhere.json")})

    assert not (tmp_path / "runs").exists()


def test_outputs_load_row_by_row(made: tuple[Path, Path]) -> None:
    table = pq.read_table(made[0] / "arms/tidy")

    assert table.column_names == ["doc_id", "text", "source", "url", "metadata"]
