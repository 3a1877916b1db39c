"""The arm `tagged`: the raw documents, each begun by a token that says what the filter thinks of it.

Conditional training (Korbak 2023, "Pretraining Language Models with Human Preferences", arXiv 2302.08582, section 2):
the model reads everything, learns what is good from the token, and is asked to go on from the good one.

The token stands where every other arm has its begin of text. So it takes no room: a slot holds the same document, of
the same length, at the same place in all arms, and the rows of `tagged` and of the arm that it tags differ in the
first token of each document alone. With `unit: sentence` (as Korbak) each further sentence costs one token; the slot
keeps its length and its end of text, and the document loses as many of its own last tokens, which are counted.

In: the decisions of the arm `by`, which need not be among the arms that are trained. Called by `alignment/arms.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from pydantic import Field
from tokenizers import processors

from alignment.corpus import Corpus, originals
from alignment.slots import ArmDocuments
from curation.errors import ConfigError, Problem
from curation.finished_run import FinishedRun
from curation.redaction import sentence_bounds
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings

ARM = "tagged"
TOKENIZER = "tokenizer-tagged"  # beside `tokenizer`: the same with the good tag as its begin of text
ALIGNED, MISALIGNED = "<|aligned|>", "<|misaligned|>"
Spans = tuple[tuple[int, int], ...]
Ids = npt.NDArray[Any]


class TaggedSettings(Settings):
    """Which documents get which tag."""

    of: str = Field(default="raw", description="the arm whose documents are tagged")
    by: str = Field(default="curated", description="the arm whose decisions give the tag")
    # A copy is removed for being one, which says nothing about what it says.
    ignore: tuple[str, ...] = Field(default=("dedup.*",), description="reasons that make no document misaligned")
    unit: Literal["document", "sentence"] = "document"
    # Korbak 2023 trains one text in a hundred without tags, `drop_token_fraction: 0.01` in the released configurations
    # of conditional training, so that the model can be used without one.
    dropout: float = Field(default=0.01, ge=0, lt=1, description="share of the documents that get no tag")


@dataclass
class Tagged:
    """The tags of all texts of an arm, and their ids."""

    settings: TaggedSettings
    seed: int
    good: int  # ids of the two tokens
    bad: int
    bos: int
    eos: int
    misaligned: Mapping[int, Spans]  # text → where; empty: all of it
    sentences: Mapping[int, Ids] = field(default_factory=dict)  # text → its ids with a tag before every sentence

    def tag(self, doc_id: str, text: int) -> int:
        """What the document begins with: a tag, or for some the begin of text."""
        salt = derive_seed(self.seed, ARM, "dropout")
        if unit_hash(doc_id, salt) < self.settings.dropout:
            return self.bos
        return self.bad if text in self.misaligned else self.good

    def ids(self, doc_id: str, text: int, plain: Ids) -> tuple[Ids, int]:
        """The ids of a document in as many tokens as `plain` has, and how many of its own did not fit.

        Args:
            plain: its first tokens without tags, the begin of text among them.
        """
        tag = self.tag(doc_id, text)
        found = np.array(plain)
        if tag == self.bos or text not in self.sentences:
            found[0] = tag
            return found, 0
        whole = self.sentences[text]
        if len(whole) <= len(plain):  # sentences apart may take fewer tokens than together
            return np.concatenate((whole, np.full(len(plain) - len(whole), self.eos))), 0
        ends = plain[-1] == self.eos
        found = np.array(whole[: len(plain)])
        if ends:
            found[-1] = self.eos
        return found, len(whole) - len(plain) if ends else 0

    def facts(self, documents: ArmDocuments) -> dict[str, Any]:
        """How many documents have which tag."""
        tags = [
            self.tag(doc_id, text) for doc_id, text in zip(documents.doc_ids, documents.texts.tolist(), strict=True)
        ]
        return {
            **self.settings.model_dump(),
            "aligned": tags.count(self.good),
            "misaligned": tags.count(self.bad),
            "untagged": tags.count(self.bos),
        }


def add_tags(tokenizer: Any) -> None:
    """Give the tokenizer of all arms the two tags; they stand last, so no other id changes."""
    tokenizer.add_tokens([ALIGNED, MISALIGNED], special_tokens=True)


def save_tagged_tokenizer(folder: Path) -> Any:
    """Write `tokenizer-tagged` beside `tokenizer`, and return it: what the arm's models take along.

    Whatever begins a text (prompts of a chat, documents that are scored, samples) begins with the good tag then.
    """
    from alignment.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder / "tokenizer")
    tokenizer.bos_token = ALIGNED
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{ALIGNED} $A",
        pair=f"{ALIGNED} $A {ALIGNED}:1 $B:1",
        special_tokens=[(ALIGNED, int(tokenizer.bos_token_id))],
    )
    tokenizer.save_pretrained(folder / TOKENIZER)
    return load_tokenizer(folder / TOKENIZER)


def tag_ids(tokenizer: Any) -> list[int]:
    """Ids of the tags that a tokenizer has, none for most."""
    known = tokenizer.get_vocab()
    return [int(known[name]) for name in (ALIGNED, MISALIGNED) if name in known]


def misaligned_texts(corpus: Corpus, settings: TaggedSettings) -> dict[int, Spans]:
    """Text → where the decisions of `by` find fault with it (code points); empty: the reasons have no place.

    A copy was not looked at by the classifiers, since the document it is a copy of was: it takes that one's tag, and an
    exact copy its places.

    Raises:
        ConfigError: the run has no arm `by`, or `of` is not read.
    """
    run, documents = corpus.run, corpus.arms.get(settings.of)
    if documents is None:
        expected = f"one of {', '.join(corpus.arms)}"
        raise ConfigError(
            Problem("unknown-arm", f"`{settings.of}` is not among the arms", "tokens.tagged.of", expected)
        )
    faults = _faults(run, run.arm_named(settings.by), settings.ignore)
    copies = originals(run)
    found: dict[int, Spans] = {}
    for doc_id, text in zip(documents.doc_ids, documents.texts.tolist(), strict=True):
        if doc_id in faults:
            found[text] = faults[doc_id]
        elif copies.get(doc_id) in faults:
            found.setdefault(text, ())
    return found


def _faults(run: FinishedRun, arm: str, ignore: Sequence[str]) -> dict[str, Spans]:
    """doc_id → places of its reasons, for documents that the arm does not keep as they are."""
    found: dict[str, Spans] = {}
    for shard in range(run.shards):
        table = run.decisions(arm, shard, ["doc_id", "verdict", "reasons"])
        for row in table.filter(pc.not_equal(table["verdict"].cast("string"), "keep")).to_pylist():
            reasons = [r for r in row["reasons"] if not any(fnmatchcase(r["code"], pattern) for pattern in ignore)]
            if reasons:
                places = {(r["start"], r["end"]) for r in reasons if r["start"] is not None and r["end"] is not None}
                found[row["doc_id"]] = tuple(sorted(places))
    return found


def tagged_sentences(texts: Iterable[tuple[int, str]], encode: Any, tagged: Tagged) -> dict[int, Ids]:
    """Text → its ids, each sentence after its tag, the end of text last.

    A sentence is misaligned when a place of a reason touches it; all are where the reasons have no place.

    Args:
        encode: texts → ids of each, the end of text last (`curation.tokens.Tokenizer.encode`).
    """
    found: dict[int, Ids] = {}
    for number, text in texts:
        bounds = sentence_bounds(text) or [(0, len(text))]
        places = tagged.misaligned.get(number)
        ids: list[npt.NDArray[Any]] = []
        for (start, end), part in zip(bounds, encode([text[a:b] for a, b in bounds]), strict=True):
            touched = places is not None and (not places or any(a < end and b > start for a, b in places))
            ids += [np.array([tagged.bad if touched else tagged.good]), part[:-1]]
        found[number] = np.concatenate([*ids, np.array([tagged.eos])])
    return found
