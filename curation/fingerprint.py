"""One hash for a configuration, so that a path names exactly what made it.

`fingerprint` accepts only plain data. Anything else (a callable, an object with a default repr) is refused: its text
could differ between two runs of the same job and would silently fork the fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

FINGERPRINT_HEX = 16  # 64 bits: two of a million different jobs collide with probability 3e-8 (birthday bound).


def fingerprint(value: object) -> str:
    """First 16 hex digits of the sha256 of the canonical JSON of `value`.

    Raises:
        TypeError: `value` holds something that is not plain data.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:FINGERPRINT_HEX]


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces; sets, callables and non-finite floats are refused."""
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any, path: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{path}: {value} has no canonical form")
        return value
    if isinstance(value, dict):
        bad = [k for k in value if not isinstance(k, str)]
        if bad:
            raise TypeError(f"{path}: keys must be strings, got {bad[0]!r}")
        return {k: _plain(v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{path}[{i}]") for i, v in enumerate(value)]
    raise TypeError(f"{path}: {type(value).__name__} is not plain data")


@lru_cache(maxsize=1)
def code_version() -> str:
    """Package version + a hash of the curation code, so that a change of code is a change of fingerprint."""
    import curation

    root = Path(curation.__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("curation", "classifiers", "beam_jobs"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".yaml", ".json", ".tsv", ".txt", ".jsonl", ".ftz", ".npz"}:
                digest.update(str(path.relative_to(root)).encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{curation.__version__}+{digest.hexdigest()[:12]}"
