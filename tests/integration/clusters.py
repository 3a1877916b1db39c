"""What the tests on Spark and on Flink share: a run of the command line, watched, and the processes behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from beam_jobs.deploy.clusters import LocalCluster

# An idle machine takes one to two minutes for the slowest of these runs.
RUN_TIMEOUT_S = 1500.0


def command(inputs: Path, output: Path, arms: list[str], *beam: str, workers: int = 1) -> list[str]:
    """`headwater curate` of a small job, on the runner that `beam` names; the job file is written beside the output."""
    output.mkdir(parents=True, exist_ok=True)
    job = output / "job.yaml"
    job.write_text(f'kind: curate\ninput: ["{inputs}"]\noutput: {output}\narms: [{", ".join(arms)}]\n', "utf-8")
    start = [sys.executable, "-m", "curation", "curate", str(job), "--set", f"workers={workers}"]
    return [*start, "--", *beam] if beam else start


def curated(start: list[str], disturb: Callable[[], None] | None = None) -> Path:
    """The run that the command ends with; `disturb` is called once it is under way."""
    process = subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if disturb is not None:
        disturb()
    out, err = process.communicate(timeout=RUN_TIMEOUT_S)
    assert process.returncode == 0, err[-3000:]
    return Path(out.splitlines()[-1])


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def markers(output: Path) -> int:
    """Tasks that are finished in the runs below a folder."""
    return len(list(output.rglob("markers/*/part-*.json")))


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from descendants(int(child))


def worker_processes(cluster: LocalCluster) -> list[int]:
    """Python workers that the cluster's nodes have started."""
    found = []
    for process in cluster.processes.values():
        for pid in descendants(process.pid):
            if b"headwater-worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def kill_a_worker_process(cluster: LocalCluster) -> None:
    wait_for(lambda: bool(worker_processes(cluster)))
    os.kill(worker_processes(cluster)[0], signal.SIGKILL)
