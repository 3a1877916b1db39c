"""Token shards, a pass after decide: arms/<name>/part → tokens/<name>/part, one task a shard, every arm in it.

The tokenizer is opened through Beam's filesystems, so that remote workers find it where the driver did.
"""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from beam_jobs import io, layout
from beam_jobs.config import Tokens
from beam_jobs.context import load_context
from curation.errors import ConfigError, Problem, StageError
from curation.tokens import TokenCache, Tokenizer, load_tokenizer, shard_files

if TYPE_CHECKING:  # planning needs no Beam, and `curate` imports it while the inputs are hashed
    from beam_jobs.runners import Task


@lru_cache(maxsize=2)
def tokenizer_of(settings: Tokens) -> tuple[Tokenizer, str]:
    """The job's tokenizer and the sha256 of its file, read once a process.

    Raises:
        ConfigError: the file cannot be read, or is no tokenizer with an end-of-text token.
    """
    try:
        data = io.read_bytes(settings.tokenizer)
    except StageError as error:
        what = f"cannot read the tokenizer: {error.problems[0].message}"
        raise ConfigError(Problem("no-tokenizer", what, "tokens.tokenizer", "a tokenizer.json")) from None
    return load_tokenizer(data, settings.tokenizer, settings.text_end), hashlib.sha256(data).hexdigest()


def token_shard(task: Task, _: dict[str, Any]) -> None:
    """Write the token files of one shard of every arm; an arm without documents there gets none."""
    context, shard, started = load_context(task["run"]), int(task["shard"]), time.monotonic()
    settings = context.job.tokens
    assert settings is not None
    tokenizer, _sha256 = tokenizer_of(settings)
    cache = TokenCache(tokenizer)
    arms: dict[str, Any] = {}
    for arm in context.arms:
        encoded = []
        with io.BeamOpener().open(io.join(context.run, layout.arm(arm.name, shard))) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["text"]):
                encoded += cache.encode(batch["text"])
        files = []
        if encoded:
            for suffix, content in shard_files(encoded, settings.format, tokenizer.is_small).items():
                path = layout.part(f"tokens/{arm.name}", shard, suffix.lstrip("."))
                files.append(io.write_listed(context.run, path, content, len(encoded)))
        arms[arm.name] = {"documents": len(encoded), "tokens": sum(map(len, encoded)), "files": files}
    documents = max((counts["documents"] for counts in arms.values()), default=0)
    marker = {"arms": arms, "documents": documents, "seconds": round(time.monotonic() - started, 3)}
    io.write_json(io.join(context.run, layout.marker("tokens", shard)), marker)


def token_manifest(settings: Tokens | None, run: str, shards: int) -> dict[str, Any] | None:
    """The manifest's `tokens` entry, from the markers of the pass; None when the job asks for no tokens."""
    if settings is None:
        return None
    tokenizer, sha256 = tokenizer_of(settings)
    arms: dict[str, dict[str, Any]] = {}
    for _, marker in sorted(layout.finished(run, "tokens", shards).items()):
        found: dict[str, Any] = dict(marker["arms"])
        for name, counts in found.items():
            total = arms.setdefault(name, {"documents": 0, "tokens": 0, "files": []})
            total["documents"] += counts["documents"]
            total["tokens"] += counts["tokens"]
            total["files"] += counts["files"]
    width = {"megatron": "int32", "npy": "uint32"}[settings.format]
    return {
        "format": settings.format,
        "dtype": "uint16" if tokenizer.is_small else width,
        "tokenizer": {"name": settings.tokenizer.rsplit("/", 1)[-1], "sha256": sha256},
        "vocabulary": tokenizer.vocabulary,
        "text_end": {"token": tokenizer.text_end, "id": tokenizer.text_end_id},
        "arms": arms,
    }
