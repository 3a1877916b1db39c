"""datatrove's half of the comparison; runs in datatrove's own environment.

    PYTHON benchmarks/datatrove_job.py pipeline INPUT_DIR OUT_DIR TASKS     rules + MinHash + write, end to end
    PYTHON benchmarks/datatrove_job.py signatures FILE.jsonl LIMIT      seconds for the signatures of LIMIT documents

The pipeline is the one of its own `examples/fineweb.py` and `examples/minhash_deduplication.py`: Gopher repetition,
Gopher quality, C4 without the terminal punctuation rule, FineWeb quality, then MinHash 14 x 8 over word 5-grams in
four stages, written as Parquet.
"""

from __future__ import annotations

import json
import sys
import time


def pipeline(source: str, out: str, tasks: int) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    stages = (
        (
            [
                JsonlReader(source, glob_pattern="*.jsonl"),
                GopherRepetitionFilter(),
                GopherQualityFilter(),
                C4QualityFilter(filter_no_terminal_punct=False),
                FineWebQualityFilter(),
                JsonlWriter(f"{out}/filtered"),
            ],
            tasks,
        ),
        ([JsonlReader(f"{out}/filtered"), MinhashDedupSignature(f"{out}/signatures", config=config)], tasks),
        ([MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)], config.num_buckets),
        ([MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)], 1),
        (
            [JsonlReader(f"{out}/filtered"), MinhashDedupFilter(f"{out}/remove"), ParquetWriter(f"{out}/output")],
            tasks,
        ),
    )
    for number, (blocks, size) in enumerate(stages):
        started = time.monotonic()
        LocalPipelineExecutor(blocks, tasks=size, workers=2, logging_dir=f"{out}/logs/{number}").run()
        print(json.dumps({"stage": number, "seconds": time.monotonic() - started}), flush=True)


def signatures(path: str, limit: int) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    step = MinhashDedupSignature("/tmp/unused", config=config)
    texts = []
    with open(path, encoding="utf-8") as lines:
        for line, _ in zip(lines, range(limit), strict=False):
            texts.append(json.loads(line)["text"])
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    step.get_signature(step.get_shingles(documents[0].text))  # loads the tokeniser
    started = time.process_time()
    for document in documents:
        shingles = step.get_shingles(document.text)
        if shingles.size:
            step.get_signature(shingles)
    print(json.dumps({"documents": len(documents), "cpu_s": time.process_time() - started}))


if __name__ == "__main__":
    if sys.argv[1] == "pipeline":
        pipeline(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        signatures(sys.argv[2], int(sys.argv[3]))
