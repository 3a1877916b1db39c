"""The duplicate search over made-up signatures, hashes only: time and memory on one machine, clusters by brute force.

    python -m benchmarks.scale_signatures --documents 100000000 --out DIR

A document is a set of 24 hashes; its MinHash band keys are those the real kernels make of that set. 2 % of the
documents are exact copies and 6 % near copies of another, with one to three of the 24 replaced (exact Jaccard 0.92,
0.85, 0.78), so all that should be found is known. The index of a run is written as the measure pass writes it; then
the dedup pass that ships works on it, nothing changed but where the sets come from. It takes 170 bytes of disk a
document. `scale_truth.py` says what is checked afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numba import njit

from benchmarks.process import run as measured
from curation.dedup.settings import DedupSettings
from curation.kernels.shingles import _minhash, band_hashes, permutations

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out" / "scale_signatures"
SHARD = 100_000  # documents; 200 MB of text, were there any
SIZE = 24  # hashes of a set
EXACT, NEAR = 0.02, 0.06  # shares of copies
MOST_REPLACED = 3
SETTINGS = DedupSettings()
FRESH, COPY, EDITED = 0, 1, 2


@njit(nogil=True, cache=True)
def _mix(x: int) -> int:
    """fmix64 of MurmurHash3: a 64-bit number from which every bit of `x` can be seen."""
    h = np.uint64(x)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@njit(nogil=True, cache=True)
def _draw(n: int, purpose: int) -> int:
    return _mix(np.uint64(n) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(purpose) * np.uint64(0xD6E8FEB86659FD93))


@njit(nogil=True, cache=True)
def _fate(n: int) -> int:
    share = np.float64(_draw(n, 1) >> np.uint64(11)) / 2.0**53
    return COPY if share < EXACT else EDITED if share < EXACT + NEAR else FRESH


@njit(nogil=True, cache=True)
def _origin(n: int, documents: int) -> int:
    """The fresh document that `n` copies."""
    step = 2
    while True:
        other = np.int64(_draw(n, 100 + step) % np.uint64(documents))
        if _fate(other) == FRESH and other != n:
            return other
        step += 1


@njit(nogil=True, cache=True)
def make(numbers: Any, documents: int, words: Any, content: Any, length: Any, planted: Any) -> None:
    """Fill the rows of `words` (SIZE each), `content` (two hashes), `length`, `planted` (fate, origin, replaced)."""
    for row in range(numbers.shape[0]):
        n = numbers[row]
        fate = _fate(n)
        origin = n if fate == FRESH else _origin(n, documents)
        named = origin if fate == COPY else n
        for j in range(SIZE):
            words[row, j] = _draw(origin, 1000 + j)
        replaced = 0
        if fate == EDITED:
            replaced = 1 + np.int64(_draw(n, 3) % np.uint64(MOST_REPLACED))
            first = np.int64(_draw(n, 4) % np.uint64(SIZE))
            for j in range(replaced):
                words[row, (first + j) % SIZE] = _draw(n, 2000 + j)
        content[row, 0] = _draw(named, 5)
        content[row, 1] = _draw(named, 6)
        length[row] = 1500 + np.int64(_draw(named, 7) % np.uint64(1000))
        planted[row, 0] = fate
        planted[row, 1] = origin
        planted[row, 2] = replaced


def made(numbers: Any, documents: int) -> tuple[Any, Any, Any, Any]:
    """words, content, length, planted of these documents."""
    size = len(numbers)
    found = (
        np.empty((size, SIZE), np.uint64),
        np.empty((size, 2), np.uint64),
        np.empty(size, np.int64),
        np.empty((size, 3), np.int64),
    )
    make(np.asarray(numbers, np.int64), documents, *found)
    return found


@njit(nogil=True, cache=True)
def hash_all(words: Any) -> None:
    for i in range(words.shape[0]):
        words[i] = _mix(words[i])


def synthetic_sets(shard: dict[str, Any], rows: Any, _: int) -> tuple[Any, Any]:
    """What `beam_jobs.shingle_files` asks of a shard: the sets of some rows, flat, and their sizes."""
    documents = int(shard["documents"])  # in place of the file of texts
    words, _, _, _ = made(shard["shard"] * SHARD + rows, documents)
    flat = words.reshape(-1)
    hash_all(flat)  # a shingle of one word is the mixed hash of the word
    return flat, np.full(len(rows), SIZE)


def write_index(run: Path, shard: int, documents: int) -> int:
    """The index file of one shard; returns its rows."""
    from beam_jobs import io, layout
    from beam_jobs.measure import index_schema

    numbers = np.arange(shard * SHARD, min(documents, (shard + 1) * SHARD))
    words, content, length, _ = made(numbers, documents)
    a, b = permutations(SETTINGS.permutations, SETTINGS.seed)
    signatures = np.empty((len(numbers), SETTINGS.permutations), np.uint32)
    offsets = np.arange(0, words.size + 1, SIZE)
    _minhash(
        words.reshape(-1), offsets, 1, a, b, signatures, np.empty(SIZE + 1, np.uint32), np.empty(SIZE + 1, np.uint64)
    )
    bands = band_hashes(signatures, SETTINGS.bands, SETTINGS.rows)
    sha256 = np.zeros((len(numbers), 4), np.uint64)
    sha256[:, :2] = content
    schema = index_schema(SETTINGS)
    columns = [
        pc.cast(pa.array(numbers), pa.string()),
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(numbers), [None, pa.py_buffer(sha256.tobytes())]),
        pa.array(numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)),
        pa.array(length),
        *(pa.array(np.ascontiguousarray(bands[:, band])) for band in range(SETTINGS.bands)),
    ]
    options = {
        **io.writing_options(schema),
        "compression": {**io.writing_options(schema)["compression"], "sha256": "zstd"},
    }
    path = run / layout.index(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, **options)
    return len(numbers)


def generate(run: Path, documents: int) -> dict[str, Any]:
    """All index files, and the job that the workers read."""
    from beam_jobs.config import CurateJob
    from beam_jobs.context import load_arms, save_job
    from curation.settings import parse

    job = parse(
        CurateJob, {"kind": "curate", "input": ["none"], "output": str(run), "arms": ["dedup_only"]}, "job", "job"
    )
    save_job(str(run), job, load_arms(job))
    with ThreadPoolExecutor(2) as pool:
        rows = sum(pool.map(lambda shard: write_index(run, shard, documents), range(-(-documents // SHARD))))
    return {"documents": rows, "bytes": sum(path.stat().st_size for path in (run / "index").iterdir())}


def search(run: Path, documents: int, workers: int) -> dict[str, Any]:
    """The dedup pass; also keeps the clusters it found."""
    from beam_jobs import dedup, io, layout
    from beam_jobs.context import load_context
    from beam_jobs.runners import RunnerSettings, reuse_memory

    reuse_memory()
    shards = [
        dedup.IndexShard(
            shard, str(run / layout.index(shard)), str(documents), min(SHARD, documents - shard * SHARD), fixed=False
        )
        for shard in range(-(-documents // SHARD))
    ]
    kept: list[Any] = []

    def components(context: Any) -> tuple[Any, Any]:
        kept.extend(read(context))
        return kept[0], kept[1]

    read = dedup.read_components
    with mock.patch.object(dedup, "read_components", components):
        stats = dedup.run_dedup(
            load_context(str(run)), shards, RunnerSettings(workers), "benchmarks.scale_signatures:synthetic_sets"
        )
    with io.writing(str(run / "components.npz")) as out:
        np.savez(out, keys=kept[0], component=kept[1])
    stats.pop("files")
    return stats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument(
        "--sample", type=int, default=1000, help="documents sampled from clusters, and as many from all"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--keep", action="store_true", help="leave the files")
    parser.add_argument("--stage", choices=("generate", "search", "check"))
    args = parser.parse_args()
    run = args.out.resolve()
    if args.stage:
        from benchmarks import scale_truth

        stages = {
            "generate": lambda: generate(run, args.documents),
            "search": lambda: search(run, args.documents, args.workers),
            "check": lambda: scale_truth.check(run, args.documents, args.sample),
        }
        print(json.dumps(stages[args.stage]()))
        return
    shutil.rmtree(run, ignore_errors=True)
    print(f"{args.documents:,} documents, {args.workers} workers\n")
    print("| stage | wall s | processor s | peak MB |\n|---|---:|---:|---:|")
    results = {}
    for stage in ("generate", "search", "check"):
        command = [sys.executable, "-m", "benchmarks.scale_signatures", *sys.argv[1:], "--stage", stage]
        cost = measured(command)
        results[stage] = json.loads(cost.stdout.strip().splitlines()[-1])
        print(f"| {stage} | {cost.wall_s:,.1f} | {cost.cpu_s:,.1f} | {cost.peak_mb:,.0f} |", flush=True)
    print("\n" + json.dumps(results, indent=1))
    if not args.keep:
        shutil.rmtree(run)


if __name__ == "__main__":
    main()
