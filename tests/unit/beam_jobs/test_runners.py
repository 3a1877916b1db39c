"""Tasks in lanes, and every way in which a task can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.runners import RunnerSettings, Task, assign_lanes, run_tasks
from curation.errors import ConfigError, DataContractError, LimitError, Problem, RecordError, StageError

REPO = Path(__file__).resolve().parents[3]
PROBLEMS = (
    Problem("first", "one thing is wrong", "a.yaml: x", "another", "try this"),
    Problem("second", "and another; with ümlauts"),
)
KINDS = {kind.__name__: kind for kind in (ConfigError, DataContractError, StageError, LimitError, RecordError)}


def write_name(task: Task, context: dict[str, Any]) -> None:
    Path(context["folder"], f"{task['shard']}.txt").write_text(f"{context['word']} {task['shard']}", encoding="utf-8")


def fail(task: Task, context: dict[str, Any]) -> None:
    write_name(task, context)
    if task["shard"] == context["bad"]:
        if context["kind"] == "ours":
            raise ZeroDivisionError("a bug of ours")
        raise KINDS[context["kind"]](*PROBLEMS)


def tasks(count: int) -> list[Task]:
    return [{"shard": i, "weight": 1 + i % 3} for i in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_task_runs_once(tmp_path: Path, workers: int, count: int) -> None:
    context = {"folder": str(tmp_path / "out"), "word": "shard"}
    (tmp_path / "out").mkdir()
    run_tasks("p", str(tmp_path), tasks(count), f"{__name__}:write_name", context, RunnerSettings(workers), False)

    assert {p.name: p.read_text() for p in (tmp_path / "out").iterdir()} == {
        f"{i}.txt": f"shard {i}" for i in range(count)
    }


def test_no_tasks_start_no_pipeline(tmp_path: Path) -> None:
    run_tasks("p", str(tmp_path), [], "nowhere:nothing", {}, RunnerSettings(2), True)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_error_of_a_task_arrives_as_what_it_was_with_all_its_problems(
    tmp_path: Path, kind: str, workers: int
) -> None:
    context = {"folder": str(tmp_path), "word": "", "bad": 2, "kind": kind}
    with pytest.raises(KINDS[kind]) as caught:
        run_tasks("p", str(tmp_path), tasks(4), f"{__name__}:fail", context, RunnerSettings(workers), False)

    assert type(caught.value) is KINDS[kind]
    assert caught.value.problems == PROBLEMS


@pytest.mark.parametrize("workers", [1, 2])
def test_any_other_exception_is_a_failed_pass_that_says_what_and_where(tmp_path: Path, workers: int) -> None:
    context = {"folder": str(tmp_path), "word": "", "bad": 2, "kind": "ours"}
    with pytest.raises(StageError) as caught:
        run_tasks("p", str(tmp_path), tasks(4), f"{__name__}:fail", context, RunnerSettings(workers), False)

    (problem,) = caught.value.problems
    assert type(caught.value) is StageError
    assert problem.code == "pass-failed"
    assert "pass `p` failed" in problem.message
    assert "a bug of ours" in problem.message


def test_an_error_of_an_earlier_attempt_is_not_reported_again(tmp_path: Path) -> None:
    context = {"folder": str(tmp_path), "word": "", "bad": 2, "kind": "ConfigError"}
    with pytest.raises(ConfigError):
        run_tasks("p", str(tmp_path), tasks(4), f"{__name__}:fail", context, RunnerSettings(1), False)

    run_tasks("p", str(tmp_path), tasks(4), f"{__name__}:fail", {**context, "bad": -1}, RunnerSettings(1), False)
    with pytest.raises(StageError, match="pass-failed"):
        run_tasks(
            "p", str(tmp_path), tasks(4), f"{__name__}:fail", {**context, "kind": "ours"}, RunnerSettings(1), False
        )


WEIGHTS = st.lists(st.floats(0, 1000), max_size=40)


@given(WEIGHTS, st.integers(1, 8))
def test_no_lane_is_heavier_than_the_average_and_one_task(weights: list[float], lanes: int) -> None:
    chosen = assign_lanes(weights, lanes)
    totals = [sum(w for w, c in zip(weights, chosen, strict=True) if c == lane) for lane in range(lanes)]

    assert len(chosen) == len(weights)
    assert set(chosen) <= set(range(lanes))
    assert max(totals) <= (sum(weights) / lanes + max(weights, default=0)) * (1 + 1e-9)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 3))
def test_the_heaviest_lane_is_at_most_four_thirds_of_the_best_possible(weights: list[int], lanes: int) -> None:
    def makespan(chosen: tuple[int, ...]) -> int:
        return max(sum(w for w, c in zip(weights, chosen, strict=True) if c == lane) for lane in range(lanes))

    best = min(makespan(chosen) for chosen in product(range(lanes), repeat=len(weights)))

    assert makespan(tuple(assign_lanes(weights, lanes))) <= (4 / 3 - 1 / (3 * lanes)) * best + 1e-9


def test_lanes_depend_on_the_weights_alone() -> None:
    assert assign_lanes([5, 5, 5, 1, 9], 2) == [1, 1, 0, 1, 0]
    assert assign_lanes([], 2) == []


SUICIDE = """
import os, signal, sys, time
from pathlib import Path

def die(task, context):
    Path(context["folder"], str(task["shard"])).write_text(str(os.getpid()))
    if task["shard"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

if __name__ == "__main__":
    from beam_jobs.runners import RunnerSettings, run_tasks
    folder = sys.argv[1]
    tasks = [{"shard": i, "weight": 1} for i in range(4)]
    run_tasks("slow", folder, tasks, "suicide:die", {"folder": folder}, RunnerSettings(2), True)
"""


def test_a_killed_worker_ends_the_process_within_seconds_and_says_what_to_do(tmp_path: Path) -> None:
    """Beam's local runner alone would wait for the dead worker for ever."""
    (tmp_path / "suicide.py").write_text(SUICIDE, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPO)])}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "suicide.py"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == StageError.exit_code, done.stderr
    assert "error[worker-died]: a worker of pass `slow` was killed" in done.stderr
    assert "hint: run the same command again" in done.stderr
    assert time.monotonic() - started < 50
    workers = {int(p.read_text()) for p in tmp_path.iterdir() if p.name.isdigit()}
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []


def test_an_error_in_a_worker_process_arrives_as_what_it_was(tmp_path: Path) -> None:
    source = """
import json, sys
from beam_jobs.runners import RunnerSettings, run_tasks
from curation.errors import ConfigError, Problem

def bad(task, context):
    raise ConfigError(Problem("first", "one"), Problem("second", "two", "here", "this", "try"))

if __name__ == "__main__":
    try:
        tasks = [{"shard": i, "weight": 1} for i in range(2)]
        run_tasks("p", sys.argv[1], tasks, "failing:bad", {}, RunnerSettings(2), True)
    except ConfigError as error:
        print(json.dumps([vars(p) for p in error.problems]))
"""
    (tmp_path / "failing.py").write_text(source, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPO)])}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "failing.py"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert [Problem(**p) for p in json.loads(done.stdout)] == [
        Problem("first", "one"),
        Problem("second", "two", "here", "this", "try"),
    ]
