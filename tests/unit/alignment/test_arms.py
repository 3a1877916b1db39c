"""The arms of a run → token folders: one order, one length, each document in its place unless an arm removed it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import SENTENCES

from alignment.arms import TokensSettings, arm_tokens
from alignment.slots import ABSENT, SHORT_GAP, ArmDocuments, Pool, align, matched, slot_lengths
from alignment.tokens import TokenFolder
from curation.document import DOCUMENTS, DUPLICATES
from curation.errors import ConfigError, DataContractError

Rows = list[tuple[str, str, str]]  # id, source, text
SETTINGS = TokensSettings(vocabulary=400, context=16, held_out=0.1)


def text_of(number: int) -> str:
    """Between 20 and some 150 tokens, every one different."""
    words = [SENTENCES[(number * 7 + k) % 10] for k in range(1 + number % 4)]
    return f"Page {number}. " + " ".join(words)


RAW: Rows = [(f"doc-{n}", "web" if n % 3 else "forum", text_of(n)) for n in range(90)]
REMOVED = {f"doc-{n}" for n in range(0, 90, 6)}
CURATED: Rows = [row for row in RAW if row[0] not in REMOVED]


def build_run(folder: Path, arms: dict[str, Rows], shards: int = 2, duplicates: Rows | None = None) -> Path:
    """A finished run with nothing but what training reads."""
    manifest: dict[str, Any] = {
        "schema_version": 1, "arms": {}, "arm_order": list(arms), "shards": shards, "files": [],
    }  # fmt: skip
    for name, rows in arms.items():
        entries = []
        for shard in range(shards):
            here = rows[shard::shards]
            path = folder / f"arms/{name}/part-{shard:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = [{"doc_id": i, "text": t, "source": s, "url": None, "metadata": "{}"} for i, s, t in here]
            pq.write_table(pa.Table.from_pylist(columns, DOCUMENTS), path)
            data = path.read_bytes()
            entries.append(
                {
                    "path": str(path.relative_to(folder)), "documents": len(here), "bytes": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            )  # fmt: skip
        manifest["arms"][name] = {"shards": entries, "removed_shards": [], "documents": len(rows)}
    if duplicates:
        (folder / "duplicates").mkdir()
        found = [
            {"doc_id": a, "duplicate_of": b, "kind": "near", "jaccard": 0.9, "cluster_size": 2, "row": 0}
            for a, b, _ in duplicates
        ]
        pq.write_table(pa.Table.from_pylist(found, DUPLICATES), folder / "duplicates/part-00000.parquet")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def places(folder: TokenFolder) -> list[dict[str, Any]]:
    """documents.parquet, one dict a row."""
    found: list[dict[str, Any]] = pq.read_table(folder.path / "documents.parquet").to_pylist()
    return found


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder / "tokenizer")


def test_every_arm_has_the_same_number_of_tokens_and_the_same_document_at_the_same_place(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "curated": CURATED})
    folders = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)
    raw, curated = folders["raw"], folders["curated"]

    assert len(raw.ids) == len(curated.ids)
    assert raw.starts.tolist() == curated.starts.tolist()
    at = {row["doc_id"]: row for row in places(raw) if row["start"] is not None}
    differs = raw.ids[:] != curated.ids[:]
    replaced = np.zeros(len(raw.ids), bool)
    for row in places(curated):
        if row["start"] is None:
            continue
        if row["fate"] == "kept":
            assert (row["start"], row["tokens"]) == (at[row["doc_id"]]["start"], at[row["doc_id"]]["tokens"])
            assert row["slot"] == row["doc_id"]
        else:
            assert row["slot"] in REMOVED or row["fate"] == "truncated"
            replaced[row["start"] : row["start"] + row["tokens"]] = True
    assert not differs[~replaced].any()
    assert replaced.mean() == pytest.approx(1 / 6, abs=0.05)


def test_the_stream_of_an_arm_decodes_to_its_documents_and_to_nothing_else(tmp_path: Path) -> None:
    injected = ("doc-x", "web", "An end <|endoftext|><|assistant|> that is none. " + text_of(3))
    run = build_run(tmp_path / "run", {"raw": [*RAW, injected], "curated": CURATED})
    folders = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)
    tokenizer = tokenizer_of(tmp_path / "tokens")
    texts = {row[0]: row[2] for row in [*RAW, injected]}

    for name, folder in folders.items():
        for row in places(folder):
            if row["start"] is None:
                continue
            ids = folder.ids[row["start"] : row["start"] + row["tokens"]].tolist()
            if row["fate"] == "end_of_text":
                assert set(ids) == {folder.eos}
            elif row["fate"] == "kept":
                assert [ids[0], ids[-1]] == [folder.bos, folder.eos]
                assert not {folder.bos, folder.eos, folder.pad} & set(ids[1:-1])
                assert tokenizer.decode(ids[1:-1]) == texts[row["doc_id"]]
            else:
                assert ids[0] == folder.bos
                assert texts[row["doc_id"]].startswith(tokenizer.decode([i for i in ids[1:] if i != folder.eos])[:-1])
                assert row["doc_id"] in {doc_id for doc_id, _, _ in (RAW if name == "raw" else CURATED)} | {"doc-x"}


def test_fates_add_up_to_what_was_read_in_every_arm(tmp_path: Path) -> None:
    blank = ("doc-blank", "web", " \n ")
    run = build_run(tmp_path / "run", {"raw": [*RAW, blank], "curated": CURATED})
    folders = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)

    for name, rows in (("raw", [*RAW, blank]), ("curated", CURATED)):
        counts = dict(folders[name].facts["documents"])
        held_out = folders[name].facts["validation_documents"]
        assert counts.pop("read") == len(rows) == sum(counts.values())
        assert counts["skipped_held_out"] == held_out > 0
        assert counts.get("skipped_empty", 0) == (1 if name == "raw" else 0)
        listed = Counter(row["fate"] for row in places(folders[name]))
        assert {fate: listed[fate] for fate in counts} == counts


def test_replacements_come_from_the_arm_and_the_source_of_what_they_replace(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "curated": CURATED})
    curated = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)["curated"]
    source = {row[0]: row[1] for row in RAW}
    replacements = [row for row in places(curated) if row["fate"] == "replacement"]

    assert len(replacements) >= len(REMOVED) - 3
    assert all(row["doc_id"] not in REMOVED for row in replacements)
    assert all(source[row["doc_id"]] == source[row["slot"]] for row in replacements)
    facts = curated.facts["replacement"]
    assert facts["documents"] == len(replacements)
    assert facts["tokens"] == sum(
        row["tokens"] for row in places(curated) if row["fate"] in ("replacement", "end_of_text")
    )
    assert facts["most_uses_of_one"] == max(Counter(row["doc_id"] for row in replacements).values())


def test_held_out_documents_are_the_same_in_all_arms_and_trained_on_in_none(tmp_path: Path) -> None:
    copies = [("doc-copy", "web", text_of(40))]  # of a document that may be held out
    run = build_run(tmp_path / "run", {"raw": [*RAW, *copies], "curated": CURATED}, duplicates=[("doc-1", "doc-2", "")])
    folders = arm_tokens(run, tmp_path / "tokens", SETTINGS.model_copy(update={"held_out": 0.5}), seed=0)
    raw, curated = folders["raw"], folders["curated"]
    held = {row["doc_id"] for row in places(raw) if row["fate"] == "skipped_held_out"}

    assert raw.validation.tolist() == curated.validation.tolist()
    assert held - {"doc-copy"} == {row["doc_id"] for row in places(curated) if row["fate"] == "skipped_held_out"}
    assert not held & REMOVED, "what an arm lacks cannot be held out of it"
    assert not held & {"doc-1", "doc-2"}, "a copy of it might stay in training"
    assert ("doc-copy" in held) == ("doc-40" in held)
    tokenizer = tokenizer_of(tmp_path / "tokens")
    stream = tokenizer.decode(raw.ids[:].tolist())
    texts = {row[0]: row[2] for row in [*RAW, *copies]}
    assert not any(texts[doc_id] in stream for doc_id in held)
    assert all(texts[doc_id] in tokenizer.decode(raw.validation[:].tolist()) for doc_id in held)
    assert raw.facts["validation_bytes"] == sum(len(texts[doc_id].encode()) for doc_id in held - {"doc-copy"})


def test_unmatched_arms_leave_out_what_was_removed_and_keep_the_order(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "curated": CURATED})
    settings = SETTINGS.model_copy(update={"regime": "unmatched"})
    folders = arm_tokens(run, tmp_path / "tokens", settings, seed=0)
    orders = {
        name: [row["doc_id"] for row in places(folder) if row["fate"] in ("kept", "truncated")]
        for name, folder in folders.items()
    }

    assert len(folders["curated"].ids) < len(folders["raw"].ids)
    expected = [doc_id for doc_id in orders["raw"] if doc_id not in REMOVED]
    assert orders["curated"][: len(expected) - 1] == expected[:-1]


def test_a_redacted_document_keeps_its_place_and_what_it_lost_is_filled(tmp_path: Path) -> None:
    redacted = [(i, s, t[: len(t) // 2] if i == "doc-41" else t) for i, s, t in RAW]
    run = build_run(tmp_path / "run", {"raw": RAW, "masked": redacted})
    settings = SETTINGS.model_copy(update={"held_out": 0.0})
    folders = arm_tokens(run, tmp_path / "tokens", settings, seed=0)
    whole = next(row for row in places(folders["raw"]) if row["slot"] == "doc-41")
    found = [row for row in places(folders["masked"]) if row["slot"] == "doc-41"]

    assert found[0]["fate"] == "kept"
    assert found[0]["start"] == whole["start"]
    assert sum(row["tokens"] for row in found) == whole["tokens"]
    assert {row["fate"] for row in found[1:]} <= {"replacement", "end_of_text"}
    outside = np.ones(len(folders["raw"].ids), bool)
    outside[whole["start"] : whole["start"] + whole["tokens"]] = False
    assert (folders["raw"].ids[outside] == folders["masked"].ids[outside]).all()


def test_a_budget_cuts_all_arms_at_the_same_token(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "curated": CURATED})
    folders = arm_tokens(run, tmp_path / "tokens", SETTINGS.model_copy(update={"budget": 1000}), seed=0)

    assert {len(folder.ids) for folder in folders.values()} == {62 * 16 + 1}
    assert folders["raw"].facts["documents"]["skipped_budget"] > 10


def test_neither_shards_nor_their_order_change_a_byte_of_tokens_or_tokenizer(tmp_path: Path) -> None:
    runs = [
        build_run(tmp_path / "a", {"raw": RAW, "curated": CURATED}, shards=1),
        build_run(tmp_path / "b", {"raw": RAW[::-1], "curated": CURATED[::-1]}, shards=3),
    ]
    found = [arm_tokens(run, tmp_path / f"tokens-{run.name}", SETTINGS, seed=0) for run in runs]

    for name in ("raw", "curated"):
        assert found[0][name].sha256 == found[1][name].sha256
    files = [(tmp_path / f"tokens-{run.name}" / "tokenizer" / "tokenizer.json").read_bytes() for run in runs]
    assert files[0] == files[1]
    other = arm_tokens(runs[0], tmp_path / "other", SETTINGS, seed=1)
    assert other["raw"].sha256 != found[0]["raw"].sha256


def test_arms_with_the_same_documents_get_the_same_folders(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "same": RAW})
    folders = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)

    assert folders["raw"].sha256 == folders["same"].sha256


def test_finished_tokens_are_found_again_and_other_settings_are_refused(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "curated": CURATED})
    first = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)
    stamp = (tmp_path / "tokens/raw/tokens.bin").stat().st_mtime_ns
    again = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)

    assert {name: folder.sha256 for name, folder in again.items()} == {n: f.sha256 for n, f in first.items()}
    assert (tmp_path / "tokens/raw/tokens.bin").stat().st_mtime_ns == stamp
    assert not (tmp_path / "tokens/work").exists()
    for changed in ({"seed": 1}, {"arms": ["raw"]}):
        with pytest.raises(ConfigError, match="made by other settings or texts"):
            arm_tokens(run, tmp_path / "tokens", SETTINGS, **{"seed": 0, **changed})
    (tmp_path / "tokens/curated/tokens.json").unlink()  # killed before the end
    assert arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)["curated"].sha256 == first["curated"].sha256


def test_a_tokenizer_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    from tiny import tiny_tokenizer

    tiny_tokenizer().save_pretrained(tmp_path / "mine")
    run = build_run(tmp_path / "run", {"raw": RAW})
    folder = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0, tokenizer=tmp_path / "mine")["raw"]

    assert folder.vocabulary == len(tiny_tokenizer())
    assert tokenizer_of(tmp_path / "tokens").get_vocab() == tiny_tokenizer().get_vocab()


def test_damaged_shards_and_empty_arms_are_refused(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "none": []})
    with pytest.raises(ConfigError, match="arm `none` has no document to train on"):
        arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0)
    with pytest.raises(ConfigError, match="`cured` is not a known arm"):
        arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0, arms=["cured"])
    shard = run / "arms/raw/part-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataContractError, match=r"sha256 is .*\n.*part-00001"):
        arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0, arms=["raw"])


def test_reading_a_run_imports_no_beam() -> None:
    code = "import sys, alignment.arms; print([name for name in sys.modules if name.startswith('apache_beam')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"


documents = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 14), st.sampled_from("st")), max_size=15)


@given(st.lists(documents, min_size=1, max_size=4), st.lists(st.integers(1, 60), min_size=15, max_size=15))
def test_slots_hold_all_documents_once_and_matched_streams_are_equally_long(
    arms: list[list[tuple[str, int, str]]], lengths: list[int]
) -> None:
    """Ids may repeat in an arm, with the same text or another."""
    tables = {
        str(n): ArmDocuments([d[0] for d in arm], np.array([d[1] for d in arm], np.int64), [d[2] for d in arm])
        for n, arm in enumerate(arms)
    }
    of_text = np.array(lengths, np.int64)
    slots = align(tables, seed=0)
    wanted = slot_lengths(slots, tables, of_text)

    for name, table in tables.items():
        here = slots.at[name]
        assert sorted(here[here != ABSENT].tolist()) == list(range(len(table.doc_ids)))
        assert all(table.doc_ids[n] == doc_id for n, doc_id in zip(here, slots.doc_ids, strict=True) if n != ABSENT)
        if not len(table.doc_ids):
            continue
        pool = Pool(table, of_text[table.texts], 0)
        pieces = list(matched(slots, name, table, of_text, wanted, pool))
        per_slot = Counter[int]()
        for piece in pieces:
            per_slot[piece.slot] += piece.tokens
            if piece.document == ABSENT:
                assert piece.tokens < SHORT_GAP
            else:
                assert piece.tokens <= of_text[table.texts[piece.document]]
        assert [per_slot[slot] for slot in range(len(wanted))] == wanted.tolist()
        used = [pool.used.get(n, 0) for n in range(len(table.doc_ids))]
        assert max(used) - min(used) <= 1, "none is given out again before all were"
    if tables["0"].doc_ids:
        first = slots.at["0"] != ABSENT
        assert wanted[first].tolist() == of_text[tables["0"].texts[slots.at["0"][first]]].tolist()
