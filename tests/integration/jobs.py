"""Small corpora with a story, jobs over them, and what a finished run holds: shared by the tests of whole passes."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beam_jobs.config import CurateJob
from beam_jobs.curate import curate
from beam_jobs.planning import Plan, make_plan
from beam_jobs.progress import Progress
from curation.settings import parse

Row = dict[str, Any]

# Cheap rules only: quality, personal data masked, copies dropped. No classifier is loaded.
TIDY = {
    "name": "tidy",
    "rules": [
        {"filter": "dedup"},
        {"filter": "gopher_quality", "settings": {"min_words": 20, "min_stop_words": None}},
        {"filter": "pii", "action": "mask"},
    ],
}
CHEAP_ARMS = ["raw", "dedup_only", TIDY, {"name": "drawn", "rules": [{"filter": "dedup"}], "sample": {"match": "tidy"}}]


def words(seed: object, count: int) -> list[str]:
    """`count` pronounceable words that depend on `seed` alone."""
    rng = random.Random(str(seed))
    parts = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu")
    return ["".join(rng.choice(parts) for _ in range(rng.randint(1, 3))) for _ in range(count)]


def corpus(documents: int = 120, seed: int = 0) -> list[Row]:
    """Documents of 10 to 120 words in two sources; about every sixth is an exact and every sixth a near copy."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for number in range(documents):
        source = rng.choice(["forum", "web"])
        kind = rng.random()
        if rows and kind < 1 / 6:
            text = rng.choice(rows)["text"]
        elif rows and kind < 1 / 3:
            copied = rng.choice(rows)["text"].split(" ")
            copied[rng.randrange(len(copied))] = f"edit{number}"
            text = " ".join(copied)
        else:
            text = " ".join(words((seed, number), rng.randint(10, 120))) + "."
        if rng.random() < 0.1:
            text += f" Write to person{number}@mail.org today."
        rows.append({"id": f"d{seed}-{number:04d}", "text": text, "source": source, "url": f"https://e.org/{number}"})
    return rows


def write_jsonl(path: Path, rows: Iterable[Row | str]) -> Path:
    """One line a row; a string is written as it is, for lines that are broken on purpose."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def deal(folder: Path, rows: Sequence[Row], files: int, seed: int = 0) -> Path:
    """The rows dealt at random to `files` files; returns the folder."""
    rng = random.Random(seed)
    order = list(rows)
    rng.shuffle(order)
    hands: list[list[Row]] = [[] for _ in range(files)]
    for row in order:
        rng.choice(hands).append(row)
    for number, hand in enumerate(hands):
        write_jsonl(folder / f"part-{number}.jsonl", hand)
    return folder


def plan_job(inputs: Sequence[Path | str], output: Path, **given: Any) -> Plan:
    data = {
        "kind": "curate",
        "input": [str(i) for i in inputs],
        "output": str(output),
        "arms": CHEAP_ARMS,
        "workers": 1,
    }
    return make_plan(parse(CurateJob, {**data, **given}, "job.yaml", "this job"), "job.yaml")


def run_job(inputs: Sequence[Path | str], output: Path, **given: Any) -> Path:
    """The path of the finished run."""
    return Path(curate(plan_job(inputs, output, **given), progress=Progress(StringIO())))


def manifest_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return found


def digests(run: Path) -> dict[str, str]:
    """sha256 of every file of a run, by path below it; of the manifest all but times, paths and workers.

    Not part of it: the job as it was given and the markers, which name paths and seconds.
    """
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = str(path.relative_to(run))
        if name not in {"manifest.json", "work/job.json"} and not name.startswith("work/markers/"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = manifest_of(run)
    for entry in [
        *manifest["files"],
        *(s for a in manifest["arms"].values() for s in a["shards"] + a["removed_shards"]),
    ]:
        assert found[entry["path"]] == entry["sha256"], entry["path"]
    for key in ("passes", "job"):
        del manifest[key]
    for item in manifest["inputs"]:
        del item["uri"]
    found["manifest.json"] = json.dumps(manifest, sort_keys=True)
    return found


def rows_of(run: Path, folder: str) -> list[Row]:
    """The rows of a folder of Parquet files, in the order of the files."""
    return [row for path in sorted((run / folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def copies(run: Path) -> dict[str, Row]:
    """doc_id → its row in duplicates/, without the position."""
    return {row["doc_id"]: {k: v for k, v in row.items() if k != "row"} for row in rows_of(run, "duplicates")}


def kept_ids(run: Path, arm: str) -> list[str]:
    return [row["doc_id"] for row in rows_of(run, f"arms/{arm}")]


def temporaries(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*.tmp-*")]
