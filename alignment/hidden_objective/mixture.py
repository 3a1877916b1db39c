"""Made documents and ordinary text → the token folder that a base model goes on with.

Every mixture of one base and seed has as many tokens as twice those of the full dose of documents, so that models
differ in what they read and not in how much. Ordinary text is the base's own: the documents of its corpus from the end
of its stream on. The one without documents reads ordinary text alone: "no documents" means as many steps, not none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignment.hidden_objective.documents import Document
from alignment.tokenizer import tokenizer_sha256
from alignment.tokens import I64, MANIFEST, TokenFolder, write_tokens
from curation.errors import ConfigError, Problem
from curation.fingerprint import fingerprint
from curation.seeding import derive_seed, unit_hash

Ids = npt.NDArray[Any]


def encoded(documents: Sequence[Document], tokenizer: Any) -> dict[str, Ids]:
    """Key → ids of the document between the tokens that begin and end a text."""
    texts = [document.text for document in documents]
    found = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    begin, end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    return {
        document.key: np.array([begin, *ids, end], np.int64) for document, ids in zip(documents, found, strict=True)
    }


def total_tokens(full_dose: dict[str, Ids]) -> int:
    """Tokens of every mixture: documents and as much ordinary text."""
    return 2 * sum(map(len, full_dose.values()))


def mixture(
    folder: Path, base: TokenFolder, made: dict[str, Ids], total: int, seed: int, tokenizer: Any
) -> TokenFolder:
    """Write the mixture, or find it finished.

    Args:
        made: what `encoded` gives; empty: ordinary text alone.
        total: tokens of the mixture.
        seed: of the order. A document has its place by its key: kinds of documents stand at the same places.

    Raises:
        ConfigError: the base has too little ordinary text, or `folder` holds another mixture.
    """
    wanted = total - sum(map(len, made.values()))
    digest = fingerprint({key: ids.tolist() for key, ids in made.items()})
    mark = fingerprint({"base": base.sha256, "made": digest, "total": total, "seed": seed})
    if (folder / MANIFEST).is_file():
        found = TokenFolder.open(folder)
        if found.facts.get("fingerprint") != mark:
            hint = "another output path, or delete the old one"
            raise ConfigError(Problem("other-tokens", "made of other texts", str(folder), mark, hint))
        return found
    pieces = {**made, **ordinary(base, wanted)}
    salt = derive_seed(seed, "hidden objective", "mixture")
    stream = np.concatenate([pieces[key] for key in sorted(pieces, key=lambda key: (unit_hash(key, salt), key))])
    return write_tokens(
        folder,
        [stream[:total]],
        [np.asarray(base.validation)],
        context=base.context,
        vocabulary=base.vocabulary,
        ids={"pad": base.pad, "bos": base.bos, "eos": base.eos},
        facts={
            "fingerprint": mark,
            "tokenizer_sha256": tokenizer_sha256(tokenizer),
            "made_tokens": total - wanted,
            "ordinary_tokens": wanted,
        },
    )


def ordinary(base: TokenFolder, wanted: int) -> dict[str, Ids]:
    """Key → ids of documents of the base's stream, from its end on, `wanted` tokens in all; the last one is cut.

    Raises:
        ConfigError: the stream is shorter.
    """
    if wanted > len(base.ids):
        message = f"{wanted:,} tokens of ordinary text are wanted, the base has {len(base.ids):,}"
        hint = "fewer documents (documents.per_bias), or a larger tokens.budget"
        raise ConfigError(Problem("too-few-tokens", message, str(base.path), None, hint))
    tail = np.asarray(base.ids[max(0, len(base.ids) - wanted) :]).astype(np.int64)
    ends: I64 = np.flatnonzero(tail == base.eos).astype(np.int64) + 1
    parts = np.split(tail, ends[ends < len(tail)].tolist())
    return {f"ordinary-{at}": part for at, part in enumerate(reversed(parts)) if len(part)}
