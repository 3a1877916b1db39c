"""Guard rails of a whole run: one process at a time, and limits that count a filter's documents once."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from beam_jobs.config import CurateJob
from beam_jobs.curate import curate
from beam_jobs.planning import Plan, make_plan
from beam_jobs.progress import Progress
from curation.errors import LimitError, StageError
from curation.settings import parse

pytestmark = pytest.mark.integration


def plan_of(tmp_path: Path, texts: list[str], **settings: object) -> Plan:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    data = {"kind": "curate", "input": [str(source)], "output": str(tmp_path / "runs"), "workers": 1, **settings}
    return make_plan(parse(CurateJob, data, "job", "this job"), "job")


def test_a_second_process_on_the_same_run_is_refused_and_the_first_can_go_on(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ["one text of some words"], arms=["raw"])
    lock = Path(plan.run) / "work" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StageError, match="another process is working on this run"):
            curate(plan, progress=Progress(quiet=True))
    run = curate(plan, progress=Progress(quiet=True))
    assert json.loads(Path(run, "manifest.json").read_text())["arms"]["raw"]["documents"] == 1
    assert not lock.exists()


def test_codes_of_one_filter_that_each_remove_a_part_reach_the_limit_together(tmp_path: Path) -> None:
    short, wide, good = "two words", "x" * 300, "A sentence of some plain words that stands alone in this file, number"
    texts = [f"{short} {i}" for i in range(4)] + [f"{wide} {i}" for i in range(4)] + [f"{good} {i}" for i in range(2)]
    rule = {"filter": "length", "settings": {"min_chars": 20, "max_chars": 200}}
    ruleset = {"name": "mine", "rules": [rule]}
    limits = {"max_removed_fraction": 0.5, "from_documents": 1}
    plan = plan_of(tmp_path, texts, arms=[ruleset], limits=limits)
    with pytest.raises(LimitError, match=r"removed or redacted by `length`: 8 of 10 \(80.0%\)"):
        curate(plan, progress=Progress(quiet=True))


def test_texts_without_a_word_are_no_candidates_of_each_other_unless_they_are_equal(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ["!!! ???", "... ---", "!!! ???", "***"], arms=["dedup_only"])
    manifest = json.loads(Path(curate(plan, progress=Progress(quiet=True)), "manifest.json").read_text())
    found = {key: manifest["dedup"][key] for key in ("candidates", "exact", "near", "capped")}
    assert found == {"candidates": 2, "exact": 1, "near": 0, "capped": 0}
