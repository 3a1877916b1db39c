"""Exact and near dedup and the rewritten arm beside the first sketch of this project, on the same documents in one run.

    python -m benchmarks.against_prototype [--documents 1000000] [--rounds 2]

The sketch (`benchmarks.columnar_prototype`) is what a target of 40,000 documents/s was taken from: 43,000 to 55,000 on
another machine. How fast it is here says what of the target is the machine's; the ratio hangs on the machine less than
either side. Both start as a user starts them and run in alternation, each a warm-up first. Processor seconds count the
whole process tree and mean something on a busy machine too; seconds do not.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median

from benchmarks.growth import curate_job
from benchmarks.process import Cost, run
from benchmarks.synthetic_corpus import make_documents, sentences, write

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out" / "prototype"
WARM_UP_DOCUMENTS = 2000
SIDES = ("Headwater", "prototype")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default=str(REPO.parent / "shared/data/corpus/reddit.jsonl.zst"))
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    pool = sentences(args.corpus)
    for name, count in (("tiny", WARM_UP_DOCUMENTS), ("input", args.documents)):
        write(make_documents(pool, count, seed=0), OUT / name)
    for side in SIDES:  # compiles the kernels
        measure(side, "tiny")
    costs: dict[str, list[Cost]] = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side in SIDES:
            costs[side].append(measure(side, "input"))
    report(args.documents, costs)


def measure(side: str, folder: str) -> Cost:
    """One run of one side over the documents in `folder`."""
    target = OUT / "runs"
    shutil.rmtree(target, ignore_errors=True)
    if side == "prototype":
        return run([sys.executable, "-m", "benchmarks.columnar_prototype", str(OUT / folder), str(target)])
    job = OUT / "job.yaml"
    job.write_text(curate_job(OUT / folder, target, normalise=False))
    return run([sys.executable, "-m", "curation", "curate", str(job), "--quiet"])


def report(documents: int, costs: dict[str, list[Cost]]) -> None:
    """Medians of each side and their ratios."""
    rows = {
        "documents/s": [documents / median(cost.wall_s for cost in costs[side]) for side in SIDES],
        "documents/processor s": [documents / median(cost.cpu_s for cost in costs[side]) for side in SIDES],
        "processor s": [median(cost.cpu_s for cost in costs[side]) for side in SIDES],
        "wall s": [median(cost.wall_s for cost in costs[side]) for side in SIDES],
        "peak MB": [median(cost.peak_mb for cost in costs[side]) for side in SIDES],
    }
    print(f"{documents:,} documents, medians of {len(costs[SIDES[0]])} rounds\n")
    print("| | Headwater | prototype | ratio |\n|---|---:|---:|---:|")
    for name, (ours, theirs) in rows.items():
        digits = 0 if min(ours, theirs) > 200 else 1
        print(f"| {name} | {ours:,.{digits}f} | {theirs:,.{digits}f} | {ours / theirs:.2f} |")
    for side in SIDES:
        print(f"{side}: processor s of each round {', '.join(f'{cost.cpu_s:.1f}' for cost in costs[side])}")


if __name__ == "__main__":
    main()
