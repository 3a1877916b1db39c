"""Signatures for datasketch: the same permutations, so the same estimates, and any of its LSH back ends.

lsh = datasketch.MinHashLSH(params=(14, 8), num_perm=112, storage_config={"type": "redis", ...})
for doc_id, signature in zip(ids, to_datasketch(texts, settings)):
    lsh.insert(doc_id, signature)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from curation.dedup.settings import DedupSettings
from curation.kernels.shingles import minhash
from curation.kernels.text_batch import TextBatch

SCHEME = "affine32"  # datasketch >= 2.0; it refuses to compare signatures of two schemes


def to_datasketch(texts: pa.Array, settings: DedupSettings) -> Iterator[Any]:
    """One `datasketch.MinHash` per text, with this library's signature inside."""
    from datasketch import MinHash

    signatures = minhash(TextBatch(texts), settings.ngram, settings.permutations, settings.seed)
    for row in signatures:
        yield MinHash(num_perm=settings.permutations, seed=settings.seed, scheme=SCHEME, hashvalues=row.copy())
