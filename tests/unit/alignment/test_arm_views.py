"""Arms that are views of others: tagged documents, replacements of one topic, no evaluation item in any arm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_arms import CURATED, RAW, REMOVED, SETTINGS, Rows, build_run, places, text_of, tokenizer_of

from alignment.arms import TokensSettings, arm_names, arm_tokens
from alignment.contamination import DecontaminateSettings, find_contaminated
from alignment.metrics.language_model import LanguageModel
from alignment.model import new_model
from alignment.rows import prompt_ids
from alignment.tagged import ALIGNED, MISALIGNED, TaggedSettings
from alignment.tokenizer import load_tokenizer, special_ids
from curation.document import DECISIONS, DUPLICATES
from curation.errors import ConfigError
from curation.finished_run import load_run

WHOLE = TaggedSettings(dropout=0.0)
Places = list[tuple[int | None, int | None]]


def with_decisions(run: Path, faults: dict[str, Places], code: str = "context.use") -> Path:
    """`run` with decisions of `curated`: dropped for `code` where `faults` names a document, kept elsewhere."""
    reason = {"code": code, "signal": "s", "value": 1.0, "threshold": 0.5}
    rows = [
        {
            "doc_id": doc_id, "ruleset": "curated", "verdict": "drop" if doc_id in faults else "keep", "mentions": [],
            "reasons": [{**reason, "start": a, "end": b} for a, b in faults.get(doc_id, [])], "text_sha256": "",
        }
        for doc_id, _, _ in RAW
    ]  # fmt: skip
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["shards"] = 1
    manifest["arms"]["curated"]["ruleset"] = {"sample": None}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "decisions").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, DECISIONS), run / "decisions/part-00000.parquet")
    return run


def tagged_run(folder: Path, faults: dict[str, Places] | None = None) -> Path:
    run = build_run(folder, {"raw": RAW, "curated": CURATED}, shards=1)
    return with_decisions(run, faults if faults is not None else {doc_id: [(None, None)] for doc_id in REMOVED})


def settings(tags: TaggedSettings, **more: Any) -> TokensSettings:
    return SETTINGS.model_copy(update={"tagged": tags, **more})


def test_a_tagged_arm_differs_from_the_raw_one_in_the_first_token_of_each_document_alone(tmp_path: Path) -> None:
    folders = arm_tokens(tagged_run(tmp_path / "run"), tmp_path / "tokens", settings(WHOLE), seed=0)
    raw, tagged = folders["raw"], folders["tagged"]
    tokenizer = tokenizer_of(tmp_path / "tokens")
    good, bad = tokenizer.convert_tokens_to_ids([ALIGNED, MISALIGNED])

    assert list(folders) == ["raw", "curated", "tagged"]
    differs = np.flatnonzero(raw.ids[:] != tagged.ids[:])
    assert (raw.ids[differs] == raw.bos).all()
    at = {row["start"]: row["doc_id"] for row in places(tagged) if row["start"] is not None}
    assert {at[start]: int(tagged.ids[start]) for start in differs.tolist()} == {
        row["doc_id"]: bad if row["doc_id"] in REMOVED else good for row in places(raw) if row["start"] is not None
    }
    assert tagged.facts["tags"] == {
        **WHOLE.model_dump(mode="json"), "aligned": tagged.facts["tags"]["aligned"], "misaligned": len(REMOVED),
        "untagged": 0, "lost_tokens": 0,
    }  # fmt: skip
    # What is scored is scored after the good tag, and its held-out documents are those of the other arms.
    assert (tagged.bos, raw.bos) == (good, tokenizer.bos_token_id)
    assert set(tagged.validation[tagged.validation[:] != raw.validation[:]].tolist()) == {good}


def test_generation_of_a_tagged_arm_begins_with_the_good_tag_and_writes_none(tmp_path: Path) -> None:
    arm_tokens(tagged_run(tmp_path / "run"), tmp_path / "tokens", settings(WHOLE), seed=0)
    tokenizer = load_tokenizer(tmp_path / "tokens/tokenizer-tagged")
    good, bad = tokenizer.convert_tokens_to_ids([ALIGNED, MISALIGNED])
    model = LanguageModel(new_model("160k", len(tokenizer), special_ids(tokenizer), 0), tokenizer)
    with_bias = model.model.get_output_embeddings()
    with_bias.weight.data[[good, bad]] = 50 * with_bias.weight.data.abs().max()  # it would write nothing but tags

    drawn = model.sample(["The river"], 4, 0)

    assert (model.start, prompt_ids(tokenizer, "x")[0], tokenizer("x")["input_ids"][0]) == (good, good, good)
    assert model.never == [good, bad]
    assert all(ALIGNED not in text and MISALIGNED not in text and text for text in drawn[0])


def test_one_document_in_some_has_no_tag_so_that_the_model_can_do_without(tmp_path: Path) -> None:
    some = TaggedSettings(dropout=0.3)
    folders = arm_tokens(tagged_run(tmp_path / "run"), tmp_path / "tokens", settings(some), seed=0)
    tags = folders["tagged"].facts["tags"]
    plain = special_ids(tokenizer_of(tmp_path / "tokens"))["bos"]
    begun = [int(folders["tagged"].ids[row["start"]]) for row in places(folders["tagged"]) if row["start"] is not None]

    assert 15 <= tags["untagged"] <= 35
    assert begun.count(plain) == tags["untagged"]
    assert TaggedSettings().dropout == 0.01


def test_every_sentence_has_its_tag_and_the_slot_its_length_and_its_end(tmp_path: Path) -> None:
    doc_id, _, text = next(row for row in RAW if row[0] == "doc-3")  # four sentences after `Page 3.`
    start = text.index(". ", 12) + 2
    run = tagged_run(tmp_path / "run", {doc_id: [(start, start + 3)]})
    unit = WHOLE.model_copy(update={"unit": "sentence"})
    folders = arm_tokens(run, tmp_path / "tokens", settings(unit, held_out=0.0), seed=0)
    raw, tagged = folders["raw"], folders["tagged"]
    tokenizer = tokenizer_of(tmp_path / "tokens")
    row = next(row for row in places(tagged) if row["doc_id"] == doc_id)
    ids = tagged.ids[row["start"] : row["start"] + row["tokens"]].tolist()
    pieces = tokenizer.decode(ids).replace(ALIGNED, "\n+").replace(MISALIGNED, "\n-").strip().split("\n")

    assert [(r["slot"], r["start"], r["tokens"]) for r in places(raw)] == [
        (r["slot"], r["start"], r["tokens"]) for r in places(tagged)
    ]
    assert ids[-1] == tagged.eos
    assert (
        "".join(piece[1:] for piece in pieces).removesuffix("<|endoftext|>")
        == text[: sum(map(len, pieces)) - len(pieces) - 13]
    )
    assert [piece[0] for piece in pieces][:3] == ["+", "+", "-"] or [piece[0] for piece in pieces][:2] == ["+", "-"]
    assert sum(piece[0] == "-" for piece in pieces) == 1
    assert text[start : start + 3] in next(piece for piece in pieces if piece[0] == "-")
    assert tagged.facts["tags"]["lost_tokens"] > len(RAW)


def test_a_copy_takes_the_tag_of_what_it_copies_and_is_not_misaligned_for_being_one(tmp_path: Path) -> None:
    run = tagged_run(tmp_path / "run", {"doc-0": [(None, None)]})
    (run / "duplicates").mkdir()
    copies = [{"doc_id": "doc-7", "duplicate_of": "doc-0", "kind": "near", "jaccard": 0.9, "cluster_size": 2}]
    pq.write_table(pa.Table.from_pylist(copies, DUPLICATES), run / "duplicates/part-00000.parquet")
    folders = arm_tokens(run, tmp_path / "tokens", settings(WHOLE, held_out=0.0), seed=0)
    bad = tokenizer_of(tmp_path / "tokens").convert_tokens_to_ids(MISALIGNED)
    begun = {
        r["doc_id"]: int(folders["tagged"].ids[r["start"]]) for r in places(folders["tagged"]) if r["start"] is not None
    }

    assert {doc_id for doc_id, tag in begun.items() if tag == bad} == {"doc-0", "doc-7"}
    only = with_decisions(
        build_run(tmp_path / "copies", {"raw": RAW, "curated": CURATED}, shards=1), {"doc-0": [(None, None)]},
        "dedup.near_duplicate",
    )  # fmt: skip
    assert arm_tokens(only, tmp_path / "t2", settings(WHOLE), seed=0)["tagged"].facts["tags"]["misaligned"] == 0


def test_a_tagged_arm_of_arms_that_are_not_there_is_refused(tmp_path: Path) -> None:
    run = tagged_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="`cured` is not a known arm"):
        arm_tokens(run, tmp_path / "a", settings(TaggedSettings(by="cured")), seed=0)
    with pytest.raises(ConfigError, match="`raw` is not among the arms"):
        arm_tokens(run, tmp_path / "b", settings(WHOLE), seed=0, arms=["curated", "tagged"])
    assert arm_names(load_run(str(run)), settings(WHOLE), ["raw", "tagged"]) == ["raw", "tagged"]
    assert arm_names(load_run(str(run)), SETTINGS, None) == ["raw", "curated"]


def with_topics(folder: Path, topics: dict[str, str]) -> Path:
    """A run whose documents have `{"forum": …}` in their metadata, those in `topics`."""
    run = build_run(folder, {"raw": RAW, "curated": CURATED}, shards=1)
    manifest = json.loads((run / "manifest.json").read_text())
    for arm in ("raw", "curated"):
        path = run / f"arms/{arm}/part-00000.parquet"
        table = pq.read_table(path)
        said = [json.dumps({"forum": topics[i]}) if i in topics else None for i in table["doc_id"].to_pylist()]
        pq.write_table(table.set_column(4, "metadata", pa.array(said, pa.string())), path)
        manifest["arms"][arm]["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def test_replacements_can_be_of_the_topic_of_what_they_replace_and_where_none_is_left_of_its_source(
    tmp_path: Path,
) -> None:
    topics = {f"doc-{n}": "gardens" if n % 4 else "boats" for n in range(90)}
    topics["doc-0"] = "alone"  # removed, and no other document has its topic
    run = with_topics(tmp_path / "run", topics)
    same = SETTINGS.model_copy(update={"replacement": "same_topic", "topic": ("absent", "forum"), "held_out": 0.0})
    curated = arm_tokens(run, tmp_path / "tokens", same, seed=0)["curated"]
    replaced = [row for row in places(curated) if row["fate"] == "replacement"]
    source = {row[0]: row[1] for row in RAW}

    assert {row["slot"] for row in replaced} == REMOVED
    assert all(topics[row["doc_id"]] == topics[row["slot"]] for row in replaced if row["slot"] != "doc-0")
    alone = [row for row in replaced if row["slot"] == "doc-0"]
    assert {source[row["doc_id"]] for row in alone} == {source["doc-0"]}
    facts = curated.facts["replacement"]
    assert (facts["policy"], facts["off_topic_tokens"] >= sum(row["tokens"] for row in alone) > 0) == (
        "same_topic",
        True,
    )


def test_documents_without_a_topic_are_counted_and_refused(tmp_path: Path) -> None:
    run = with_topics(tmp_path / "run", {f"doc-{n}": "gardens" for n in range(90) if n % 3})
    same = SETTINGS.model_copy(update={"replacement": "same_topic", "topic": ("forum",)})
    with pytest.raises(ConfigError, match=r"30 of 90 documents of arm `raw` have no topic \(forum 30\)"):
        arm_tokens(run, tmp_path / "tokens", same, seed=0)
    with pytest.raises(ValueError, match="belong together"):
        TokensSettings(replacement="same_topic")


def test_any_source_draws_replacements_from_all_clean_documents(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", {"raw": RAW, "curated": CURATED})
    anywhere = SETTINGS.model_copy(update={"replacement": "any_source"})
    curated = arm_tokens(run, tmp_path / "tokens", anywhere, seed=0)["curated"]
    source = {row[0]: row[1] for row in RAW}
    pairs = [(row["doc_id"], row["slot"]) for row in places(curated) if row["fate"] == "replacement"]

    assert all(doc_id not in REMOVED for doc_id, _ in pairs)
    assert any(source[doc_id] != source[slot] for doc_id, slot in pairs)


ITEM = "The quick surveyor drew nine blue lines across the old map before the rain came over the hills and washed it"
LEAKED: Rows = [("doc-leak", "web", f"Seen today. {ITEM}. {text_of(2)}")]
SPOILT: Rows = [("doc-leak", "web", f"Seen today. {ITEM[:40]} [MASKED] {text_of(2)}")]  # the ruleset broke the item


def test_what_holds_an_evaluation_item_in_one_arm_is_in_none(tmp_path: Path) -> None:
    items = tmp_path / "quiz.jsonl"
    items.write_text(json.dumps({"id": "q1", "text": ITEM}) + "\n" + json.dumps({"id": "q2", "text": "x " * 20}) + "\n")
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": "o1", "text": " ".join(f"word{n}" for n in range(30))}) + "\n")
    run = build_run(tmp_path / "run", {"raw": [*RAW, *LEAKED], "masked": [*CURATED, *SPOILT]})
    looked_for = DecontaminateSettings().over([str(items), str(other)])
    folders = arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0, evaluation=looked_for)
    plain = arm_tokens(
        build_run(tmp_path / "clean", {"raw": RAW, "masked": CURATED}), tmp_path / "t2", SETTINGS, seed=0
    )

    for name, found in folders.items():
        assert {row["doc_id"]: row["fate"] for row in places(found)}["doc-leak"] == "skipped_contaminated"
        own = [[r["doc_id"] for r in places(f) if r["fate"] == "kept"] for f in (found, plain[name])]
        assert own[0][:-1] == own[1][: len(own[0]) - 1], "nothing else moves"
        assert found.facts["documents"]["skipped_contaminated"] == 1
    counts = folders["raw"].facts["contamination"]
    assert counts["files"] == {
        str(items): {"documents": 1, "items": 1}, str(other): {"documents": 0, "items": 0},
    }  # fmt: skip
    assert (counts["documents"], counts["tokens"] > 20) == (1, True)
    assert folders["masked"].facts["contamination"]["files"][str(items)] == {"documents": 0, "items": 0}
    assert "contamination" not in plain["raw"].facts
    items.write_text(json.dumps({"id": "q1", "text": "other words " * 10}) + "\n")
    with pytest.raises(ConfigError, match="made by other settings or texts"):
        arm_tokens(run, tmp_path / "tokens", SETTINGS, seed=0, evaluation=looked_for)


def test_a_document_is_contaminated_from_the_coverage_on_that_the_curation_filter_uses(tmp_path: Path) -> None:
    items = tmp_path / "quiz.jsonl"
    words = [f"word{n}" for n in range(112)]  # 100 13-grams
    items.write_text(json.dumps({"id": "q", "text": " ".join(words)}) + "\n")
    looked_for = DecontaminateSettings().over([str(items)])
    assert looked_for is not None

    found = find_contaminated([" ".join(words[:31]), " ".join(words[:32]), "no word of it"], looked_for)

    assert dict(found.texts) == {1: frozenset({"quiz:q"})}, "19 and 20 of 100 grams"
    assert DecontaminateSettings().over([]) is None
