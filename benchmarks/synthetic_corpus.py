"""A large corpus of natural sentences, for measuring speed and growth where the real corpora are too small.

Documents are random concatenations of sentences of a real corpus (about 1.9 KB each, the mean of the measured web
corpora), one in ten an edited copy of another, three in a hundred an exact copy. Deterministic for a seed.

    python -m benchmarks.synthetic_corpus --documents 1000000 --from ../shared/data/corpus/reddit.jsonl.zst --out DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from curation.redaction import sentence_bounds

FILE_DOCUMENTS = 50_000
GROUP_DOCUMENTS = 10_000


def sentences(path: str) -> list[str]:
    """Every sentence of 20 to 300 characters in the texts of a JSONL.zst file."""
    found = []
    with open(path, "rb") as raw, zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(raw) as stream:
        for line in stream.read().decode("utf-8").split("\n"):
            if line:
                text = json.loads(line)["text"]
                found += [text[a:b].strip() for a, b in sentence_bounds(text) if 20 <= b - a <= 300]
    return found


def make_documents(pool: list[str], count: int, seed: int) -> list[str]:
    """`count` texts: 87 % new, 10 % edited copies of an earlier one, 3 % exact copies."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    fate = rng.random(count)
    lengths = rng.lognormal(mean=3.0, sigma=0.45, size=count).astype(int) + 3
    for i in range(count):
        if i and fate[i] < 0.03:
            texts.append(texts[int(rng.integers(i))])
        elif i and fate[i] < 0.13:
            words = texts[int(rng.integers(i))].split(" ")
            words[int(rng.integers(len(words)))] = "edited"
            texts.append(" ".join(words))
        else:
            texts.append(" ".join(pool[j] for j in rng.integers(len(pool), size=lengths[i])))
    return texts


def write(texts: list[str], out: Path) -> None:
    """Parquet files of 50,000 documents in row groups of 10,000: `id`, `text`, `source`."""
    out.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(texts), FILE_DOCUMENTS)):
        part = texts[start : start + FILE_DOCUMENTS]
        table = pa.table(
            {"id": [f"s{start + i:08d}" for i in range(len(part))], "text": part, "source": ["synthetic"] * len(part)}
        )
        pq.write_table(table, out / f"part-{number:04d}.parquet", compression="zstd", row_group_size=GROUP_DOCUMENTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--from", dest="corpus", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    texts = make_documents(sentences(args.corpus), args.documents, args.seed)
    write(texts, args.out)
    print(f"{len(texts):,} documents, {sum(map(len, texts)) / 1e6:,.0f} M characters in {args.out}")


if __name__ == "__main__":
    main()
