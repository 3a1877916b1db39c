"""Plans: fingerprints that name what a run writes and nothing else, and every problem of a job in one message."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from beam_jobs import planning
from beam_jobs.config import CurateJob
from beam_jobs.planning import STARTUP_S, Plan, cost_estimate, earlier_index, make_plan
from curation.dedup.settings import DedupSettings
from curation.errors import ConfigError, Problem, StageError
from curation.settings import parse

ARMS = ["raw", "dedup_only", "curated", "sampled"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        rows = [{"id": f"{name}{i}", "text": f"Text number {i} of file {name}."} for i in range(3)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def plan(root: Path, where: str = "job.yaml", **given: Any) -> Plan:
    data = {"kind": "curate", "input": [f"{root}/corpus/*.jsonl"], "output": f"{root}/runs", "arms": ARMS, **given}
    return make_plan(parse(CurateJob, data, where, "this job"), where)


def problems(root: Path, **given: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        plan(root, **given)
    return list(caught.value.problems)


def test_a_plan_names_inputs_shards_and_the_path_of_the_run(corpus: Path) -> None:
    found = plan(corpus)

    assert [Path(item["uri"]).name for item in found.inputs] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert [index for index, _ in found.splits] == [0, 1, 2]
    assert found.run == f"{corpus}/runs/{found.fingerprint}"
    assert not (corpus / "runs").exists()


def test_the_order_in_which_inputs_are_listed_leaves_no_trace(corpus: Path) -> None:
    names = [f"{corpus}/corpus/{name}.jsonl" for name in "abc"]

    assert {plan(corpus, input=order).fingerprint for order in (names, names[::-1], names[1:] + names[:1])} == {
        plan(corpus).fingerprint
    }


def test_a_file_listed_twice_is_read_once(corpus: Path) -> None:
    once, twice = plan(corpus), plan(corpus, input=[f"{corpus}/corpus/a.jsonl", f"{corpus}/corpus/*.jsonl"])

    assert (twice.fingerprint, twice.inputs) == (once.fingerprint, once.inputs)


def test_where_it_runs_how_many_workers_and_where_it_writes_leave_no_trace(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plan(corpus).fingerprint
    moved = corpus / "elsewhere"
    (moved / "deep").mkdir(parents=True)
    os.rename(corpus / "corpus", moved / "corpus")

    assert plan(moved).fingerprint == expected
    assert plan(moved, workers=1).fingerprint == plan(moved, workers=7).fingerprint == expected
    assert plan(moved, output="anywhere").fingerprint == expected
    assert plan(moved, limits={"max_dead_fraction": 1.0}).fingerprint == expected
    monkeypatch.chdir(moved / "deep")
    assert plan(moved, input=["../corpus/*.jsonl"]).fingerprint == expected


@pytest.mark.parametrize(
    "change",
    [
        {"arms": ["raw", "dedup_only", "curated"]},
        {"arms": ["dedup_only", "raw", "curated", "sampled"]},
        {"normalise": False},
        {"dedup": {"threshold": 0.9}},
        {"dedup": {"bands": 10}},
        {"dedup": {"keep": "shortest"}},
        {"scoring": {"top_share": 0.5}},
        {"reading": {"max_text_bytes": 1000}},
        {"split_mb": 1},
        {"arms": [*ARMS[:2], {"name": "curated", "rules": [{"filter": "context", "settings": {"max_use": 0.9}}]}]},
    ],
)
def test_every_setting_that_changes_what_is_written_changes_the_fingerprint(
    corpus: Path, change: dict[str, Any]
) -> None:
    assert plan(corpus, **change).fingerprint != plan(corpus).fingerprint


def test_a_changed_input_changes_the_fingerprint(corpus: Path) -> None:
    before = plan(corpus)
    path = corpus / "corpus" / "b.jsonl"
    path.write_text(path.read_text() + '{"id": "new", "text": "One more."}\n', encoding="utf-8")

    assert plan(corpus).fingerprint != before.fingerprint
    os.rename(path, corpus / "corpus" / "d.jsonl")
    assert plan(corpus).fingerprint not in {before.fingerprint}


def test_a_new_threshold_of_a_rule_leaves_the_measured_and_scored_passes_as_they_are(corpus: Path) -> None:
    def passes(min_words: int, max_use: float, as_name: str = "mine") -> dict[str, str]:
        rules = [
            {"filter": "dedup"},
            {"filter": "gopher_quality", "settings": {"min_words": min_words}},
            {"filter": "context", "settings": {"max_use": max_use}},
        ]
        return plan(corpus, arms=[{"name": as_name, "rules": rules}]).passes

    assert passes(50, 0.5) == passes(10, 0.5) == passes(50, 0.9) == passes(50, 0.5, "yours")


def test_what_a_rule_measures_by_changes_the_measured_pass(corpus: Path) -> None:
    def passes(words: str) -> dict[str, str]:
        rules = [{"filter": "gopher_quality", "settings": {"words": words}}]
        return plan(corpus, arms=[{"name": "mine", "rules": rules}]).passes

    ours, theirs = passes("whitespace"), passes("datatrove")
    assert ours["measure"] != theirs["measure"]


def test_a_new_dedup_threshold_keeps_the_measured_pass_and_nothing_after_it(corpus: Path) -> None:
    lax, strict = plan(corpus).passes, plan(corpus, dedup={"threshold": 0.9}).passes

    assert {name: lax[name] == strict[name] for name in lax} == {"measure": True, "dedup": False, "score": False}


def test_other_bands_measure_again(corpus: Path) -> None:
    assert plan(corpus).passes["measure"] != plan(corpus, dedup={"rows": 7}).passes["measure"]


def test_every_problem_of_a_job_stands_in_one_message(corpus: Path) -> None:
    (corpus / "corpus" / "notes.md").write_text("no corpus", encoding="utf-8")
    found = problems(
        corpus,
        input=[f"{corpus}/corpus/a.jsonl", "nowhere/*.jsonl", f"{corpus}/corpus/notes.md"],
        arms=[
            "raw",
            "raw",
            "curatd",
            {"name": "mine", "rules": [{"filter": "gophr_quality"}, {"filter": "toxicity", "settings": {"max": 1}}]},
            {"name": "drawn", "rules": [], "sample": {"match": "curated"}},
            {"name": "one", "rules": [{"filter": "gopher_quality"}]},
            {"name": "two", "rules": [{"filter": "gopher_quality", "settings": {"words": "datatrove"}}]},
        ],
    )

    assert sorted(problem.code for problem in found) == sorted(
        [
            "unknown-ruleset",
            "unknown-filter",
            "unknown-key",
            "repeated-arm",
            "unknown-arm-to-match",
            "measured-twice",
            "no-input",
            next(p.code for p in found if "notes.md" in str(p)),
        ]
    )
    hints = {p.code: p.hint for p in found}
    assert hints["unknown-ruleset"] == "did you mean `curated`?"
    assert hints["unknown-filter"] == "did you mean `gopher_quality`?"


def test_an_unfinished_or_unlike_earlier_run_is_named_with_all_other_problems(corpus: Path) -> None:
    def manifest(name: str, value: dict[str, Any]) -> str:
        folder = corpus / "old" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"fingerprint": name, **value}), encoding="utf-8")
        return str(folder)

    ours = DedupSettings().model_dump(mode="json")
    good = manifest("good", {"dedup": {"exact": 1}, "job": {"dedup": ours}})
    empty = manifest("no_arm_deduplicates", {"dedup": {}, "job": {"dedup": ours}})
    bands = manifest("bands", {"dedup": {"exact": 1}, "job": {"dedup": {**ours, "bands": 20}}})
    exact = manifest("exact_only", {"dedup": {"exact": 1}, "job": {"dedup": {**ours, "near": False}}})

    found = problems(corpus, input=["nowhere/*"], dedup={"against": [good, f"{corpus}/nothing", empty, bands, exact]})

    assert [p.code for p in found] == ["no-index", "no-index", "other-signatures", "other-signatures", "no-input"]
    assert [run for run, _ in earlier_index(DedupSettings(against=(good,)))] == [good]


def test_an_arm_that_keeps_some_copies_gets_scores_for_them(corpus: Path) -> None:
    """Copies that an arm kept used to have no scores, and all of them were quarantined as failures."""

    def scores_duplicates(dedup: dict[str, Any]) -> bool:
        arm = {"name": "mine", "rules": [{"filter": "dedup", **dedup}, {"filter": "context"}]}
        return plan(corpus, arms=["raw", arm]).context.scores_duplicates

    assert not scores_duplicates({})
    assert not scores_duplicates({"settings": {"min_jaccard": 0.8}})
    assert scores_duplicates({"settings": {"near": False}})
    assert scores_duplicates({"settings": {"exact": False}})
    assert scores_duplicates({"settings": {"min_jaccard": 0.9}})
    assert scores_duplicates({"action": "keep"})
    assert scores_duplicates({"actions": {"near_duplicate": "keep"}})


def test_the_estimate_grows_with_arms_and_classifiers_and_shrinks_with_cores(corpus: Path) -> None:
    line = json.dumps({"id": "1", "text": "word " * 2000}) + "\n"
    (corpus / "corpus" / "a.jsonl").write_text(line * 2000, encoding="utf-8")  # 20 MB

    def seconds(cores: int, *arms: str) -> float:
        estimate = cost_estimate(plan(corpus, arms=list(arms)), cores)
        assert (estimate["cores"], estimate["input_files"]) == (cores, 3)
        assert abs(estimate["text_bytes"] - 2000 * len(line)) < 1000
        return float(estimate["seconds"])

    assert STARTUP_S < seconds(1, "raw") < seconds(1, "dedup_only") < seconds(1, "dedup_only", "curated")
    assert abs((seconds(2, "raw") - STARTUP_S) - (seconds(1, "raw") - STARTUP_S) / 2) < 0.1


def test_a_google_bucket_that_refuses_nobody_in_particular_says_that_credentials_are_missing(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials Google's client asks as nobody, which public buckets allow and all others refuse."""
    refused = Problem("unreadable-input", "cannot read `gs://b/*.jsonl`: 401 Anonymous caller does not have access")

    def refuse(_: str) -> list[str]:
        raise StageError(refused)

    monkeypatch.setattr(planning.io, "input_files", refuse)
    monkeypatch.setattr(planning, "_no_google_credentials", lambda uri: uri.startswith("gs://"))

    assert problems(corpus, input=["gs://b/*.jsonl"]) == [
        Problem(
            refused.code,
            refused.message,
            "job.yaml: input.0",
            None,
            "there are no Google credentials, so nobody was asking: gcloud auth application-default login",
        )
    ]
