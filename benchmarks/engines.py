"""The same job on one machine, on a local Spark cluster and on a local Flink cluster; and near-dedup by hand on Spark.

    python -m benchmarks.engines [--documents 50000] [--parts curate dedup]

`curate`: arms raw, dedup_only, curated and sampled over documents of the corpora, on Beam's local runner with one and
with two workers, on Spark and on Flink (two nodes of one core each): seconds, documents/s, processor seconds and peak
memory of all processes, the cluster's own included, and whether every file has the same sha256.

`dedup`: the arm dedup_only alone on the Spark cluster against `benchmarks/pyspark_minhash.py` there: the same
documents, 14 bands of 8 rows over word 5-grams; seconds and the bytes that Spark counts as written to its shuffles.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from beam_jobs.deploy.clusters import CLUSTERS, FlinkCluster, SparkCluster
from beam_jobs.deploy.demo import same_bytes
from beam_jobs.deploy.parts import ENGINES, SPARK
from benchmarks import process
from curation.seeding import unit_hash

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out" / "engines"
ARMS = ("raw", "dedup_only", "curated", "sampled")
FILES = 8
SPLIT_MB = 8
SAMPLE_S = 0.2


@dataclass
class Usage:
    """What the processes below this one cost while the block runs: seconds, processor seconds, peak memory."""

    wall_s: float = 0.0
    peak_mb: float = 0.0
    ticks: dict[int, int] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)

    def __enter__(self) -> Usage:
        self.before = {pid: _ticks(pid) for pid in _children()}
        self.started, self.done = time.monotonic(), threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.monotonic() - self.started
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(SAMPLE_S):
            pids = _children()
            self.peak_mb = max(self.peak_mb, sum(process._resident(pid) for pid in pids) / 1e6)
            for pid in pids:
                self.ticks[pid] = max(self.ticks.get(pid, 0), _ticks(pid))

    @property
    def cpu_s(self) -> float:
        """Of every process its own, up to the last sample in which it lived."""
        total = sum(ticks - self.before.get(pid, 0) for pid, ticks in self.ticks.items())
        return total / os.sysconf("SC_CLK_TCK")


def _children() -> list[int]:
    return [pid for pid in process._tree(os.getpid()) if pid != os.getpid()]


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])  # utime, stime: proc(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=REPO.parent / "shared/data/corpus")
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--parts", nargs="+", choices=("curate", "dedup"), default=["curate", "dedup"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    args = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    size = write_corpus(args.data, args.documents, OUT / "corpus")
    print(f"{args.documents:,} documents, {size / 1e6:,.1f} MB of JSON lines in {FILES} files\n")
    curate(OUT / "warm", ["raw", "dedup_only"])  # compiles the kernels
    if "curate" in args.parts:
        compare_engines(args.documents, args.arms)
    if "dedup" in args.parts:
        compare_by_hand()


def write_corpus(data: Path, documents: int, folder: Path) -> int:
    """`documents` rows of all corpora, dealt to files; returns bytes.

    Drawn by the hash of how their text begins: copies of one text stay together, as they would not when drawn singly.
    """
    rows = []
    for path in sorted(data.glob("*.jsonl.zst")):
        for number, row in enumerate(_rows(path)):
            name = f"{path.name.partition('.')[0]}-{row.get('id', number)}"
            rows.append(
                (
                    unit_hash(row["text"][:64].lower(), 0),
                    {"id": name, "text": row["text"], "source": str(row.get("source"))},
                )
            )
    rows.sort(key=lambda item: (item[0], item[1]["id"]))
    if len(rows) < documents:
        raise SystemExit(f"{data} has {len(rows):,} documents, {documents:,} are wanted")
    folder.mkdir(parents=True)
    files = [(folder / f"part-{number}.jsonl").open("w", encoding="utf-8") for number in range(FILES)]
    for at, (_, row) in enumerate(rows[:documents]):
        files[at % FILES].write(json.dumps(row, ensure_ascii=False) + "\n")
    for file in files:
        file.close()
    return sum(path.stat().st_size for path in folder.iterdir())


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(file)
        for line in io.TextIOWrapper(stream, "utf-8"):
            yield json.loads(line)


def curate(output: Path, arms: list[str], *beam: str, workers: int = 1) -> tuple[dict[str, Any], Usage]:
    """One run of the command a user types: its manifest and what it cost."""
    output.mkdir(parents=True)
    job = output / "job.yaml"
    job.write_text(
        f"kind: curate\ninput: ['{OUT}/corpus/*.jsonl']\noutput: {output}\narms: [{', '.join(arms)}]\n"
        f"split_mb: {SPLIT_MB}\nworkers: {workers}\n"
    )
    command = [sys.executable, "-m", "curation", "curate", str(job), "--quiet", "--json"]
    with Usage() as usage:
        done = subprocess.run([*command, "--", *beam] if beam else command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    manifest: dict[str, Any] = json.loads(Path(done.stdout.splitlines()[-1]).read_text(encoding="utf-8"))
    return manifest, usage


def cluster(engine: str) -> SparkCluster | FlinkCluster:
    missing = ENGINES[engine].missing()
    if missing:
        raise SystemExit(f"no local {engine}: {missing}")
    return CLUSTERS[engine](Path(tempfile.mkdtemp(prefix=f"headwater-{engine}-")))


def compare_engines(documents: int, arms: list[str]) -> None:
    print(f"arms: {', '.join(arms)}\n")
    print("| runner | wall s | documents/s | processor s | peak MB | files of one sha256 |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    first: dict[str, Any] = {}
    for name in ("local, 1 worker", "local, 2 workers", "spark", "flink"):
        output = OUT / name.replace(", ", "-").replace(" ", "-")
        if name in CLUSTERS:
            with cluster(name) as running:
                manifest, usage = curate(output, arms, *running.options)
            shutil.rmtree(running.folder)
        else:
            manifest, usage = curate(output, arms, workers=int(name.split()[1]))
        first = first or manifest
        same = same_bytes(first, manifest)
        print(
            f"| {name} | {usage.wall_s:.1f} | {documents / usage.wall_s:,.0f} | {usage.cpu_s:.0f} | "
            f"{usage.peak_mb:,.0f} | {same} |",
            flush=True,
        )
        passes = ", ".join(f"{entry['name']} {entry['wall_s']:.1f} s" for entry in manifest["passes"])
        print(f"  {name}: {passes}", file=sys.stderr, flush=True)


def compare_by_hand() -> None:
    """Each side on a cluster that has just been started, so that neither finds the other's warm processes."""
    print("\n| near-dedup on Spark | wall s | processor s | peak MB | removed | shuffled MB | bytes a document |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for name, run in (("Headwater, dedup_only", _dedup), ("PySpark by hand", _by_hand)):
        with cluster("spark") as running:
            assert isinstance(running, SparkCluster)
            events = running.folder / "events"
            events.mkdir()
            result, usage = run(running, events)
            shuffled = shuffle_bytes(events)
        shutil.rmtree(running.folder)
        print(
            f"| {name} | {usage.wall_s:.1f} | {usage.cpu_s:.0f} | {usage.peak_mb:,.0f} | {result['removed']:,} | "
            f"{shuffled / 1e6:,.2f} | {shuffled / result['documents']:,.0f} |",
            flush=True,
        )
        print(f"  {name}: {json.dumps(result)}", file=sys.stderr, flush=True)


def _settings(events: Path) -> list[str]:
    return ["spark.eventLog.enabled=true", f"spark.eventLog.dir=file://{events}"]


def _dedup(running: SparkCluster, events: Path) -> tuple[dict[str, Any], Usage]:
    logging = [f"--job_server_jvm_properties=-D{setting}" for setting in _settings(events)]
    manifest, usage = curate(OUT / "dedup", ["dedup_only"], *running.options, *logging)
    passes = {entry["name"]: entry["wall_s"] for entry in manifest["passes"]}
    removed = manifest["arms"]["dedup_only"]["dropped"]
    return {"documents": manifest["documents"], "removed": removed, "passes": passes}, usage


def _by_hand(running: SparkCluster, events: Path) -> tuple[dict[str, Any], Usage]:
    py4j = next((SPARK.home / "python/lib").glob("py4j-*.zip"))
    settings = ["spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1", "spark.ui.enabled=false"]
    conf = " ".join(f"--conf {setting}" for setting in (*settings, *_settings(events)))
    variables = {
        "SPARK_HOME": str(SPARK.home),
        "PYTHONPATH": f"{SPARK.home.parent}:{py4j}",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": f"{conf} pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    script = [sys.executable, str(Path(__file__).with_name("pyspark_minhash.py")), "--master", running.url]
    places = ["--input", f"{OUT}/corpus/*.jsonl", "--output", str(OUT / "by_hand")]
    with Usage() as usage:
        done = subprocess.run([*script, *places], capture_output=True, text=True, env={**os.environ, **variables})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1]), usage


def shuffle_bytes(events: Path) -> int:
    """Bytes written to shuffles by all tasks of all applications that logged their events below the folder."""
    total = 0
    for path in (item for item in events.rglob("*") if item.is_file()):
        for line in path.read_text(encoding="utf-8").splitlines():
            if '"SparkListenerTaskEnd"' in line:
                metrics = json.loads(line).get("Task Metrics") or {}
                total += metrics.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
    return total


if __name__ == "__main__":
    main()
