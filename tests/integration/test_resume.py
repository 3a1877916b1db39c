"""A killed run goes on where it stopped and ends with the bytes of one that was never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from jobs import CHEAP_ARMS, corpus, deal, digests, run_job, temporaries

from beam_jobs import curate
from curation.fingerprint import code_version

pytestmark = pytest.mark.integration
REPO = Path(__file__).resolve().parents[2]
KILLS = 10

# Starts the same job again and again, each time in a new process that is killed after the seconds it reads.
# Only what was imported survives from one to the next, so that ten kills do not cost ten imports of Beam.
DRIVER = """
import os, sys, time
from curation.cli import main
import beam_jobs.curate, beam_jobs.commands, curation.report, apache_beam.runners.portability.fn_api_runner
from curation.fingerprint import code_version

from curation.filters import FILTERS
from curation.filters.base import DocumentBatch
from curation.kernels.shingles import minhash, shingle_sets
from curation.kernels.text_batch import TextBatch
from curation.kernels.word_count import word_counts
from curation.normalise import normalise_batch

texts = TextBatch.of(["some words", "more words"])
normalise_batch(texts.array), minhash(texts, 5, 112, 1), shingle_sets(texts, 5), word_counts(texts)
for name in ("gopher_quality", "pii"):  # compiled code is loaded here and inherited
    FILTERS.get(name).measure(DocumentBatch(texts, None), FILTERS.get(name).settings_type())
code_version()  # once, so that all starts agree on it even while somebody edits the code
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(["curate", sys.argv[1], "--quiet"]))
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deal(tmp_path_factory.mktemp("corpus"), corpus(200), 6)


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_job([folder / "*.jsonl"], tmp_path_factory.mktemp("reference"))


def job_file(tmp_path: Path, folder: Path, **given: object) -> Path:
    path = tmp_path / "job.yaml"
    job = {
        "kind": "curate",
        "input": [f"{folder}/*.jsonl"],
        "output": f"{tmp_path}/out",
        "arms": CHEAP_ARMS,
        "workers": 1,
    }
    path.write_text(yaml.safe_dump({**job, **given}), encoding="utf-8")
    return path


def markers(output: Path) -> dict[str, tuple[int, int]]:
    """Marker of every finished shard → inode and time of writing: a shard done again has others."""
    found = {}
    for path in output.rglob("markers/*/part-*.json"):  # does not follow `latest`
        stat = path.stat()
        found[str(path.relative_to(output))] = (stat.st_ino, stat.st_mtime_ns)
    return found


def test_ten_kills_in_different_passes_cost_nothing_that_was_finished(folder: Path, tmp_path: Path) -> None:
    rng = random.Random(20)
    output = tmp_path / "out"
    job = job_file(tmp_path, folder)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(job)], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"

    def start() -> int:
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write("go\n")
        driver.stdin.flush()
        return int(driver.stdout.readline())

    def remove() -> None:
        subprocess.run(["rm", "-rf", str(output)], check=True)

    try:
        start()
        assert int(driver.stdout.readline()) == 0
        reference = digests((output / "latest").resolve())
        shards = len(markers(output))
        remove()
        stopped_in = []
        # A moment is a number of finished shards, not of seconds: those differ with whatever else the machine does.
        for goal in [0, 0, *(rng.randrange(1, shards) for _ in range(KILLS - 2))]:
            child = start()
            deadline = time.monotonic() + 120
            while len(markers(output)) < goal and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))  # somewhere in the work on the next shard
            with suppress(ProcessLookupError):  # it was faster than this loop: counted below
                os.kill(child, signal.SIGKILL)
            killed = int(driver.stdout.readline()) == -signal.SIGKILL
            before = markers(output)
            stopped_in.append((killed, goal, len(before)))
            assert len(before) >= goal

            start()
            assert int(driver.stdout.readline()) == 0
            after = markers(output)
            assert {name: after.get(name) for name in before} == before
            run = (output / "latest").resolve()
            assert digests(run) == reference
            assert temporaries(output) == []
            remove()
    finally:
        driver.stdin.close()
        driver.wait(timeout=60)
    assert sum(killed for killed, _, _ in stopped_in) >= KILLS - 2, stopped_in
    assert len({done for _, _, done in stopped_in}) >= 3, f"the kills did not fall into different passes: {stopped_in}"


def test_a_killed_command_with_worker_processes_goes_on_and_leaves_no_process_behind(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    job = job_file(tmp_path, folder)
    code = (
        "import sys, beam_jobs.curate as c, beam_jobs.planning as p; c.PROCESSES_FROM_BYTES = 0;"
        f"p.code_version = lambda: {code_version()!r};"  # of this process, even while somebody edits the code
        "from curation.cli import main;"
        f"sys.exit(main(['curate', {str(job)!r}, '--quiet', '--set', 'workers=2']))"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPO, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not markers(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.02)
    children = [
        int(pid) for task in Path(f"/proc/{command.pid}/task").glob("*/children") for pid in task.read_text().split()
    ]
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    before = markers(tmp_path / "out")
    assert before
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [pid for pid in children if Path(f"/proc/{pid}").exists()]

    run = run_job([folder / "*.jsonl"], tmp_path / "out")

    after = markers(tmp_path / "out")
    assert {name: after.get(name) for name in before} == before
    assert digests(run) == digests(reference)
    assert temporaries(tmp_path / "out") == []
    assert left == []


def test_a_finished_run_is_not_touched_by_running_it_again(folder: Path, tmp_path: Path) -> None:
    run = run_job([folder / "*.jsonl"], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}

    assert run_job([folder / "*.jsonl"], tmp_path) == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_what_a_worker_killed_on_the_way_left_half_written_is_not_part_of_the_run(
    folder: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shard is written by another worker under another temporary name."""

    def left_over(run: curate.Run) -> None:
        Path(run.plan.run, "documents", "part-00001.parquet.tmp-1").write_bytes(b"half")

    monkeypatch.setattr(curate, "_tokens", left_over)
    run = run_job([folder / "*.jsonl"], tmp_path)

    assert temporaries(run) == []
    assert digests(run) == digests(reference)


def test_the_link_of_a_run_killed_while_it_pointed_to_itself_is_cleaned_up(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest.tmp-1").symlink_to("nothing")
    run = run_job([folder / "*.jsonl"], tmp_path, arms=["raw"])

    assert temporaries(tmp_path) == []
    assert (tmp_path / "latest").resolve() == run


def test_a_run_killed_between_its_clean_up_and_its_manifest_goes_on(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    """The draw of the sampled arms used to be looked for although it was done, and its base was gone."""
    run = run_job([folder / "*.jsonl"], tmp_path)
    (run / "manifest.json").unlink()
    before = markers(tmp_path)

    assert run_job([folder / "*.jsonl"], tmp_path) == run

    assert markers(tmp_path) == before
    assert digests(run) == digests(reference)


@pytest.mark.parametrize("name", ["measure", "sample"])
def test_a_shard_whose_marker_is_missing_is_done_again_and_only_that_one(
    folder: Path, reference: Path, tmp_path: Path, name: str
) -> None:
    run = run_job([folder / "*.jsonl"], tmp_path)
    (run / "manifest.json").unlink()
    (run / f"work/markers/{name}/part-00002.json").unlink()
    before = markers(tmp_path)

    if name == "sample":  # its base was cleaned up: the decisions it is drawn from must be made again too
        for path in (run / "work/markers/decide").iterdir():
            path.unlink()
        before = {key: value for key, value in before.items() if "/decide/" not in key}
    assert run_job([folder / "*.jsonl"], tmp_path) == run

    after = markers(tmp_path)
    assert {key: after[key] for key in before} == before
    assert len(after) > len(before)
    assert digests(run) == digests(reference)
