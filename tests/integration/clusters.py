"""What the tests on real clusters share: a run of the command line, watched, and the processes behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from beam_jobs.deploy.clusters import LocalCluster

# An idle machine takes one to two minutes for the slowest of these runs.
RUN_TIMEOUT_S = 1500.0


def command(inputs: Path, output: Path, arms: list[str], *beam: str, workers: int = 1, split_mb: int = 32) -> list[str]:
    """`headwater curate` of a small job, on the runner that `beam` names; the job file is written beside the output."""
    output.mkdir(parents=True, exist_ok=True)
    job = output / "job.yaml"
    lines = [
        "kind: curate",
        f'input: ["{inputs}"]',
        f"output: {output}",
        f"arms: [{', '.join(arms)}]",
        f"split_mb: {split_mb}",
    ]
    job.write_text("\n".join(lines) + "\n", "utf-8")
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


def killed_when(start: list[str], moment: Callable[[], bool]) -> None:
    """Start the command and kill its process at that moment, as a lost machine would: it cleans nothing up."""
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: moment() or process.poll() is not None)
    children = list(descendants(process.pid))
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the command ended before it could be killed"
    wait_for(lambda: not any(alive(pid) for pid in children))


def alive(pid: int) -> bool:
    """Whether a process still runs; one that waits for its parent to notice its end does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def markers(output: Path) -> dict[str, int]:
    """Marker of every finished task of the runs below a folder → time of its writing: a task done again has another."""
    return {str(path): path.stat().st_mtime_ns for path in output.rglob("markers/*/part-*.json")}


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield int(child)
                yield from descendants(int(child))


def worker_processes(cluster: LocalCluster) -> list[int]:
    """Python workers that the cluster's nodes have started."""
    found = []
    for process in cluster.processes.values():
        for pid in descendants(process.pid):
            with suppress(OSError):
                if b"headwater-worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
    return found


def kill_a_worker_process(cluster: LocalCluster) -> None:
    wait_for(lambda: bool(worker_processes(cluster)))
    with suppress(ProcessLookupError):
        os.kill(worker_processes(cluster)[0], signal.SIGKILL)
