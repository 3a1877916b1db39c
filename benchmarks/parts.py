"""Where the processor seconds of exact and near dedup and the rewritten arm go, part by part.

    python -m benchmarks.parts [--documents 300000]

The functions of the passes are timed in place, by the processor time of the thread that runs them (user and system),
each without what it calls that is timed itself. What no part covers is start-up, Beam, and Arrow's own threads.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io as text_io
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.growth import curate_job
from benchmarks.synthetic_corpus import make_documents, sentences, write

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out" / "parts"
WARM_UP_DOCUMENTS = 2000

# part → the functions that are it, as module:name or module:Class.name; of a generator every step counts.
PARTS = {
    "inputs: read, expanded": ("curation.sources.parquet:Parquet.read",),
    "inputs: sha256 of the files": ("beam_jobs.io:sha256_of",),
    "texts: words and MinHash": ("beam_jobs.measure:minhash", "beam_jobs.measure:band_hashes"),
    "texts: sha256, hashes of ids": ("beam_jobs.measure:index_rows",),
    "search: buckets and components": ("beam_jobs.bands:scan_range", "beam_jobs.dedup:read_components"),
    "search: shingle sets": ("beam_jobs.shingle_files:shingle_group",),
    "search: exact Jaccard": ("beam_jobs.verification:verify_task",),
    "search: the rest": ("beam_jobs.dedup:run_dedup",),
    "outputs: sha256 of the files, written to the disk": ("beam_jobs.io:_Hashing.write",),
    "outputs: Parquet and zstd": ("beam_jobs.io:ParquetShard.write", "beam_jobs.io:ParquetShard.close"),
    "arm: documents and signals read again": ("beam_jobs.decide:assemble",),
    "arm: kept and removed rows gathered": ("beam_jobs.decide:write_arm",),
    "arm: decided, all else": ("beam_jobs.decide:decide_shard",),
    "measuring: all else": ("beam_jobs.measure:measure_shard",),
    "report": ("beam_jobs.curate:_write_report",),
}


class Clock:
    """Processor seconds by part, over all threads."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.lock, self.local = threading.Lock(), threading.local()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        inside: list[list[Any]] = self.local.__dict__.setdefault("inside", [])
        now = time.thread_time()
        if inside:
            self._add(inside[-1], now)
        inside.append([name, now])
        try:
            yield
        finally:
            now = time.thread_time()
            self._add(inside.pop(), now)
            if inside:
                inside[-1][1] = now

    def _add(self, running: list[Any], now: float) -> None:
        with self.lock:
            self.seconds[running[0]] += now - running[1]
        running[1] = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, counted as part `name`; when it returns a generator, that generator's steps too."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                found = function(*args, **kwargs)
            return self._steps(name, found) if isinstance(found, Iterator) else found

        return call

    def _steps(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.part(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default=str(REPO.parent / "shared/data/corpus/reddit.jsonl.zst"))
    parser.add_argument("--documents", type=int, default=300_000)
    parser.add_argument("--job", help=argparse.SUPPRESS)  # the process that is measured
    args = parser.parse_args()
    if args.job:
        measured(args.job)
        return
    shutil.rmtree(OUT, ignore_errors=True)
    pool = sentences(args.corpus)
    # Set before Arrow is loaded, as the command line does; the timed process imports Arrow first.
    environment = {**os.environ, "MIMALLOC_PURGE_DELAY": "-1"}
    for name, count in (("tiny", WARM_UP_DOCUMENTS), ("whole", args.documents)):
        write(make_documents(pool, count, seed=0), OUT / name / "input")
        job = OUT / name / "job.yaml"
        job.write_text(curate_job(OUT / name / "input", OUT / name / "runs", normalise=False))
        command = [sys.executable, "-m", "benchmarks.parts", "--job", str(job)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    print(f"{args.documents:,} documents\n\n{done.stdout}")


def measured(job: str) -> None:
    """Run the job in this process with every part timed, and print the table."""
    from importlib import import_module

    clock = Clock()
    for name, functions in PARTS.items():
        for place in functions:
            module, _, path = place.partition(":")
            owner: Any = import_module(module)
            *classes, function = path.split(".")
            for each in classes:
                owner = getattr(owner, each)
            setattr(owner, function, clock.timed(name, getattr(owner, function)))
    from curation.cli import main as command

    with contextlib.redirect_stdout(text_io.StringIO()):
        code = command(["curate", job, "--quiet"])
    if code:
        raise SystemExit(code)
    used = resource.getrusage(resource.RUSAGE_SELF)
    total = used.ru_utime + used.ru_stime
    print("| part | processor s |\n|---|---:|")
    for name in PARTS:
        print(f"| {name} | {clock.seconds[name]:.1f} |")
    print(f"| start-up, Beam, Arrow's threads | {total - sum(clock.seconds.values()):.1f} |")
    print(f"| all ({used.ru_stime:.1f} of it in the system) | {total:.1f} |")


if __name__ == "__main__":
    main()
