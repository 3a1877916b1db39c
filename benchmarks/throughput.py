"""The whole `curated` job, all its classifiers in, over real text: MB/s of text on the cores of this machine.

python -m benchmarks.throughput [--input '../shared/data/corpus/*.jsonl.zst'] [--arms curated]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from benchmarks.process import run

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out" / "throughput"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--input", default=str(REPO.parent / "shared/data/corpus/*.jsonl.zst"))
    parser.add_argument("--arms", nargs="+", default=["curated"])
    args = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    job = OUT / "job.yaml"
    job.write_text(f"kind: curate\ninput: ['{args.input}']\noutput: {OUT}/runs\narms: [{', '.join(args.arms)}]\n")
    cost = run([sys.executable, "-m", "curation", "curate", str(job), "--quiet", "--json"])
    manifest = json.loads(Path(cost.stdout.strip().splitlines()[-1]).read_text())
    size = manifest["passes"][0]["bytes"]
    print("| documents | MB of text | wall s | MB/s | processor s | cores busy | peak MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    print(
        f"| {manifest['documents']:,} | {size / 1e6:,.1f} | {cost.wall_s:.1f} | {size / 1e6 / cost.wall_s:.1f} | "
        f"{cost.cpu_s:.1f} | {cost.cpu_s / cost.wall_s:.2f} | {cost.peak_mb:,.0f} |"
    )
    print("\n" + ", ".join(f"{entry['name']} {entry['wall_s']:.1f} s" for entry in manifest["passes"]))


if __name__ == "__main__":
    main()
