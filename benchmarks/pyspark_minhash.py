"""Near-dedup as it is written by hand for Spark: text-dedup's published approach, for `benchmarks.engines`.

    python benchmarks/pyspark_minhash.py --master spark://HOST:7077 --input 'FOLDER/*.jsonl' --output FOLDER

1. every document becomes one row a band: (number of the band, the band's bytes) → document;
2. groupByKey over them; of every bucket the edges from its smallest document to the others;
3. connected components by alternating large and small stars until nothing changes (Kiveris et al. 2014, "Connected
   Components in MapReduce and Beyond");
4. a document goes when it is not the smallest of its component. Candidates are not verified.

Where text-dedup leaves a choice this takes the one that is faster or lighter: xxh32 instead of SHA-1, arrays of numpy
instead of loops. Run by an interpreter that finds Spark 3.5's `pyspark` on its path.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import xxhash

NOT_A_WORD = re.compile(r"\W+")
PRIME = np.uint64((1 << 61) - 1)
LOW = np.uint64((1 << 32) - 1)
Edge = tuple[int, int]


def bands_of(text: str, document: int, a: Any, b: Any, ngram: int, bands: int) -> Iterator[tuple[Any, int]]:
    """One ((band, bytes), document) row a band; none for a text of fewer words than one shingle."""
    words = [word for word in NOT_A_WORD.split(text.lower()) if word]
    if len(words) < ngram:
        return
    grams = {" ".join(words[i : i + ngram]) for i in range(len(words) - ngram + 1)}
    hashes = np.fromiter((xxhash.xxh32_intdigest(gram.encode()) for gram in grams), np.uint64, len(grams))
    signature = (((hashes[:, None] * a + b) % PRIME) & LOW).min(axis=0).astype(np.uint32)
    for band, part in enumerate(np.split(signature, bands)):
        yield (band, part.tobytes()), document


def edges_of(bucket: list[int]) -> list[Edge]:
    first = min(bucket)
    return [(other, first) for other in bucket if other != first]


def large_star(node: int, neighbours: set[int]) -> list[Edge]:
    """Every larger neighbour is tied to the smallest node around."""
    least = min(neighbours | {node})
    return [(other, least) for other in neighbours if other > node]


def small_star(node: int, neighbours: set[int]) -> list[Edge]:
    """The node and its smaller neighbours are tied to the smallest of them."""
    least = min(neighbours)
    return [(other, least) for other in neighbours | {node} if other != least]


def components(edges: Any) -> Any:
    """(document, smallest document of its component) for all but the smallest of each."""
    while True:
        both = edges.flatMap(lambda e: [e, (e[1], e[0])]).groupByKey()
        large = both.flatMap(lambda g: large_star(g[0], set(g[1]))).distinct().cache()
        down = large.map(lambda e: (max(e), min(e))).groupByKey()
        small = down.flatMap(lambda g: small_star(g[0], set(g[1]))).distinct().cache()
        changed = small.subtract(edges).union(edges.subtract(small)).count()
        edges = small
        if not changed:
            return edges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("master", "input", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ngram", type=int, default=5)
    parser.add_argument("--bands", type=int, default=14)
    parser.add_argument("--rows", type=int, default=8)
    args = parser.parse_args()
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    started = time.monotonic()
    spark = SparkSession.builder.master(args.master).appName("by hand").getOrCreate()
    rng = np.random.RandomState(42)
    a = rng.randint(1, 1 << 31, args.bands * args.rows, dtype=np.int64).astype(np.uint64)
    b = rng.randint(0, 1 << 31, args.bands * args.rows, dtype=np.int64).astype(np.uint64)
    ngram, bands = args.ngram, args.bands
    documents = spark.read.json(args.input).withColumn("__id__", F.monotonically_increasing_id()).cache()
    rows = documents.select("__id__", "text").rdd.flatMap(lambda r: bands_of(r[1], r[0], a, b, ngram, bands))
    edges = rows.groupByKey().flatMap(lambda bucket: edges_of(list(bucket[1]))).distinct().cache()
    removed = components(edges) if not edges.isEmpty() else edges
    found = time.monotonic()
    gone = spark.createDataFrame(removed.map(lambda e: (e[0],)).distinct(), "__id__ long")
    kept = documents.join(gone, "__id__", "left_anti").drop("__id__")
    kept.write.mode("overwrite").parquet(args.output)
    counts = {"documents": documents.count(), "removed": gone.count()}
    spark.stop()
    ended = time.monotonic()
    print(json.dumps({**counts, "search_s": round(found - started, 2), "wall_s": round(ended - started, 2)}))


if __name__ == "__main__":
    main()
