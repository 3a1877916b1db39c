"""A lopsided corpus against an even one of the same size, in one run: time for each byte of text, memory.

    python -m benchmarks.scale_skew [--documents 100000] [--repeats 3] [--kinds copies fields boilerplate]

Lopsided: 30 % of the documents are one template, and one file holds half of all bytes; the even corpus has neither.
What a template is decides who suffers, so there are three kinds:

- copies: the same text every time (one content hash: one hot key in every shuffle by content);
- fields: one word in forty differs, exact Jaccard of any two 0.78, just below the threshold (one cluster in which
  everybody resembles everybody and nobody goes: the most comparing there can be);
- boilerplate: a frame of 60 % of the words around text of their own, Jaccard about 0.4 (they share buckets by
  accident and by the thousand, and nobody is a copy of anybody).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zstandard

from benchmarks.process import Cost, run
from benchmarks.synthetic_corpus import make_documents, sentences

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out" / "scale_skew"
KINDS = ("copies", "fields", "boilerplate")
TEMPLATE_SHARE = 0.3
FILES = 8
MOST_RATIO = 1.5  # what a lopsided corpus may cost for each byte, against the even one


def template_documents(kind: str, pool: Sequence[str], count: int, words: int, seed: int) -> list[str]:
    """`count` documents of one template, about `words` words each."""
    rng = np.random.default_rng(seed)
    own = " ".join(pool[int(i)] for i in rng.integers(len(pool), size=4 + words // 10)).split(" ")[:words]
    if kind == "copies":
        return [" ".join(own)] * count
    if kind == "fields":
        places = np.arange(7, len(own), 40)
        return [_filled(own, places, number) for number in range(count)]
    frame = int(0.6 * len(own))
    sizes = rng.integers(len(pool), size=(count, 2 + words // 25))
    return [
        " ".join(
            [
                *own[: frame // 2],
                *" ".join(pool[int(j)] for j in row).split(" ")[: words - frame],
                *own[frame // 2 : frame],
            ]
        )
        for row in sizes
    ]


def _filled(words: Sequence[str], places: Sequence[int], number: int) -> str:
    filled = list(words)
    for place in places:
        filled[place] = f"v{number}x{place}"
    return " ".join(filled)


def deal(texts: Sequence[str], folder: Path, giant: bool, seed: int = 0) -> int:
    """Write the texts to `FILES` files of JSON lines, zstd; the first holds half of all bytes if `giant`.

    Returns:
        Bytes of all texts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(texts))
    sizes = np.cumsum([len(texts[i].encode()) for i in order])
    total = int(sizes[-1])
    shares = [0.5] + [0.5 / (FILES - 1)] * (FILES - 1) if giant else [1 / FILES] * FILES
    cuts = np.searchsorted(sizes, np.cumsum(shares) * total)
    begin = 0
    for number, end in enumerate([*cuts[:-1].tolist(), len(texts)]):
        with zstandard.open(folder / f"part-{number}.jsonl.zst", "wt", encoding="utf-8") as out:
            for i in order[begin:end]:
                out.write(json.dumps({"id": f"d{i:08d}", "text": texts[i]}) + "\n")
        begin = end
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default=str(REPO.parent / "shared/data/corpus/reddit.jsonl.zst"))
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    pool = sentences(args.corpus)
    shutil.rmtree(OUT, ignore_errors=True)
    templated = int(TEMPLATE_SHARE * args.documents)
    texts = make_documents(pool, args.documents, seed=0)
    sizes = {"even": deal(texts, OUT / "even", giant=False)}
    words = int(np.mean([len(text.split(" ")) for text in texts[:1000]]))
    for kind in args.kinds:
        mixed = texts[templated:] + template_documents(kind, pool, templated, words, seed=1)
        sizes[kind] = deal(mixed, OUT / kind, giant=True)
    costs: dict[str, list[Cost]] = {name: [] for name in sizes}
    for repeat in range(args.repeats):
        for name in sizes if repeat % 2 == 0 else reversed(sizes):  # a machine that tires treats them alike
            costs[name].append(measure(name))
    report(sizes, costs, args.documents)


def measure(name: str) -> Cost:
    """One run over the corpus of this name."""
    job = OUT / f"{name}.yaml"
    job.write_text(
        f"kind: curate\ninput: ['{OUT}/{name}/*.jsonl.zst']\noutput: {OUT}/runs/{name}\narms: [dedup_only]\n"
    )
    shutil.rmtree(OUT / "runs" / name, ignore_errors=True)
    return run([sys.executable, "-m", "curation", "curate", str(job), "--quiet"])


def report(sizes: dict[str, int], costs: dict[str, list[Cost]], documents: int) -> None:
    """The table; the best of the repeats of each, since a busy machine only ever slows."""
    print(f"{documents:,} documents, best of {len(costs['even'])} runs each\n")
    print("| corpus | MB | wall s | ns/byte | ratio | processor s | ratio | peak MB | comparisons | capped | kept |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    even = min(c.wall_s for c in costs["even"]) / sizes["even"], min(c.cpu_s for c in costs["even"]) / sizes["even"]
    for name, size in sizes.items():
        wall, cpu = min(c.wall_s for c in costs[name]), min(c.cpu_s for c in costs[name])
        peak = max(c.peak_mb for c in costs[name])
        manifest = json.loads((OUT / "runs" / name / "latest" / "manifest.json").read_text())
        dedup = manifest["dedup"]
        print(
            f"| {name} | {size / 1e6:,.0f} | {wall:.1f} | {1e9 * wall / size:,.0f} | {wall / size / even[0]:.2f} | "
            f"{cpu:.1f} | {cpu / size / even[1]:.2f} | {peak:,.0f} | {dedup['comparisons']:,} | {dedup['capped']:,} | "
            f"{manifest['arms']['dedup_only']['documents']:,} |"
        )
        print(f"  {[(p['name'], p['wall_s']) for p in manifest['passes']]}", file=sys.stderr)
    worst = max(min(c.wall_s for c in costs[name]) / sizes[name] / even[0] for name in sizes)
    print(f"\nworst ratio {worst:.2f}, at most {MOST_RATIO} wanted")


if __name__ == "__main__":
    main()
