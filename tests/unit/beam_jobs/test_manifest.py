"""The manifest adds up or there is none; a run that lost too much stops and names every limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beam_jobs import io, layout
from beam_jobs.config import CurateJob
from beam_jobs.manifest import build_manifest, check_limits
from beam_jobs.planning import Plan, make_plan
from curation.errors import DataContractError, LimitError
from curation.settings import parse


def plan_of(root: Path, shards: int, limits: dict[str, Any] | None = None) -> Plan:
    for shard in range(shards):
        (root / f"{shard}.jsonl").write_text(json.dumps({"text": "A text."}) + "\n", encoding="utf-8")
    data = {"kind": "curate", "input": [f"{root}/*.jsonl"], "output": f"{root}/runs", "arms": ["raw", "dedup_only"]}
    data["limits"] = {"from_documents": 0, **(limits or {})}
    return make_plan(parse(CurateJob, data, "job.yaml", "this job"), "job.yaml")


def mark(plan: Plan, name: str, shard: int, value: dict[str, Any]) -> None:
    io.write_json(io.join(plan.run, layout.marker(name, shard)), value)


def counts(
    name: str, kept: int, dropped: int = 0, redacted: int = 0, quarantined: int = 0, **removed_by: int
) -> dict[str, Any]:
    return {
        "kept": kept,
        "redacted": redacted,
        "dropped": dropped,
        "quarantined": quarantined,
        "text_bytes": 10 * (kept + redacted),
        "removed_by": {code.replace("__", "."): n for code, n in removed_by.items()},
        "removed_by_filter": {code.split("__")[0]: n for code, n in removed_by.items()},
        "file": {"path": f"arms/{name}", "documents": kept + redacted, "bytes": 1, "sha256": "0"},
        "removed_file": {"path": f"removed/{name}", "documents": dropped, "bytes": 1, "sha256": "0"},
    }


def measured(plan: Plan, shard: int, documents: int, dead: int = 0) -> None:
    mark(plan, "measure", shard, {"documents": documents, "bytes": 10 * documents, "dead": dead, "files": []})


def decided(plan: Plan, shard: int, documents: int, **dedup_only: Any) -> None:
    arms = {"raw": counts("raw", documents), "dedup_only": counts("dedup_only", **dedup_only)}
    mark(plan, "decide", shard, {"arms": arms, "files": [], "documents": documents})


def test_counts_of_all_shards_are_added_up_and_the_line_of_every_arm_closes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 2)
    measured(plan, 0, 10, dead=1)
    measured(plan, 1, 5)
    decided(plan, 0, 10, kept=6, dropped=4, dedup__exact_duplicate=4)
    decided(plan, 1, 5, kept=2, dropped=1, redacted=1, quarantined=1, dedup__exact_duplicate=1, x__y=2)

    manifest = build_manifest(plan, [{"name": "measure", "wall_s": 0.1, "documents": 15}])

    assert manifest["conservation"] == {
        "raw": {"read": 16, "kept": 15, "redacted": 0, "dropped": 0, "quarantined": 0, "dead": 1},
        "dedup_only": {"read": 16, "kept": 8, "redacted": 1, "dropped": 5, "quarantined": 1, "dead": 1},
    }
    arm = manifest["arms"]["dedup_only"]
    assert arm["removed_by"] == {"dedup.exact_duplicate": 5, "x.y": 2}
    assert arm["removed_by_filter"] == {"dedup": 5, "x": 2}
    assert (arm["documents"], arm["bytes"]) == (9, 90)
    assert [shard["documents"] for shard in arm["shards"]] == [6, 3]
    assert (manifest["documents"], manifest["dead_letters"], manifest["shards"]) == (15, 1, 2)
    assert manifest["arm_order"] == ["raw", "dedup_only"]
    assert manifest["passes"] == [{"name": "measure", "wall_s": 0.1, "documents": 15, "bytes": 150}]
    assert manifest["fingerprint"] == plan.fingerprint


def test_a_lost_document_is_found(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 1)
    measured(plan, 0, 10)
    decided(plan, 0, 10, kept=6, dropped=3)

    with pytest.raises(DataContractError, match=r"arm `dedup_only`: .* does not add up"):
        build_manifest(plan, [])


def test_a_shard_that_was_never_decided_is_found(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 2)
    measured(plan, 0, 10)
    measured(plan, 1, 10)
    decided(plan, 0, 10, kept=10)

    with pytest.raises(DataContractError, match="not-conserved"):
        build_manifest(plan, [])


def test_a_file_with_other_documents_than_were_decided_is_found(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 1)
    measured(plan, 0, 10)
    arms = {"raw": counts("raw", 10), "dedup_only": counts("dedup_only", 10)}
    arms["raw"]["file"]["documents"] = 9
    mark(plan, "decide", 0, {"arms": arms, "files": [], "documents": 10})

    with pytest.raises(DataContractError, match="arm `raw` wrote 9 documents, decided 10"):
        build_manifest(plan, [])


def test_a_shard_beyond_the_plan_is_no_part_of_the_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 1)
    for shard in (0, 1):
        measured(plan, shard, 10)
        decided(plan, shard, 10, kept=10)

    assert build_manifest(plan, [])["documents"] == 10


def manifest_of(documents: int, dead: int = 0, **arms: dict[str, Any]) -> dict[str, Any]:
    return {"documents": documents, "dead_letters": dead, "arms": arms}


def passed(tmp_path: Path, manifest: dict[str, Any], **limits: Any) -> list[tuple[str, str]]:
    """(message, where) of every limit that the manifest passes."""
    plan = plan_of(tmp_path, 1, limits)
    try:
        check_limits(plan, manifest)
    except LimitError as error:
        return [(problem.message, problem.where or "") for problem in error.problems]
    return []


def test_every_limit_that_is_passed_is_named(tmp_path: Path) -> None:
    arm = {"quarantined": 20, "removed_by_filter": {"dedup": 96, "context": 95}}
    manifest = manifest_of(100, 10, mine=arm, other={"quarantined": 5, "removed_by_filter": {}})

    assert passed(tmp_path, manifest) == [
        ("dead letters: 10 of 110 (9.1%)", "limits.max_dead_fraction"),
        ("arm `mine`: quarantined: 20 of 100 (20.0%)", "limits.max_quarantined_fraction"),
        ("arm `mine`: removed or redacted by `dedup`: 96 of 100 (96.0%)", "limits.max_removed_fraction"),
    ]


def test_a_run_exactly_at_its_limits_goes_on(tmp_path: Path) -> None:
    arm = {"quarantined": 5, "removed_by_filter": {"dedup": 95}}

    assert passed(tmp_path, manifest_of(95, 5, mine={**arm, "quarantined": 4})) == [
        ("arm `mine`: removed or redacted by `dedup`: 95 of 95 (100.0%)", "limits.max_removed_fraction")
    ]
    assert passed(tmp_path, manifest_of(100, 5, mine=arm)) == []


def test_limits_can_be_lifted_and_do_not_count_in_small_runs(tmp_path: Path) -> None:
    arm = {"quarantined": 50, "removed_by_filter": {"dedup": 100}}
    manifest = manifest_of(100, 100, mine=arm)
    lifted = {"max_dead_fraction": 1.0, "max_quarantined_fraction": 1.0, "max_removed_fraction": 1.0}

    assert len(passed(tmp_path, manifest)) == 3
    assert passed(tmp_path, manifest, **lifted) == []
    assert passed(tmp_path, manifest, from_documents=1000) == []


def test_nothing_but_dead_letters_stops_even_a_small_run(tmp_path: Path) -> None:
    assert passed(tmp_path, manifest_of(0, 3), from_documents=1000) == [
        ("dead letters: 3 of 3 (100.0%)", "limits.max_dead_fraction")
    ]


def test_a_run_without_one_record_stops(tmp_path: Path) -> None:
    assert passed(tmp_path, manifest_of(0)) == [("the inputs hold not one record", "")]
