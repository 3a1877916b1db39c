"""The arms of a curation run → one tokenizer and one token folder an arm, in lockstep.

    RUN/arms/<name>/part-*.parquet ──▶ FOLDER/tokenizer/            one, trained on the texts of all arms
                                   └─▶ FOLDER/<name>/tokens.bin …   what `alignment/tokens.py` describes
                                       FOLDER/<name>/documents.parquet   where each document went and why

1. read every arm (`corpus.py`); a text that several arms share is one text;
2. leave out of all arms what contains evaluation items (`contamination.py`), where the job asks for it;
3. hold documents out for validation by the hash of their ids, the same in all arms;
4. encode every distinct text once;
5. lay the documents out slot by slot (`slots.py`) and write the folders; refuse arms whose counts differ.

The arm `tagged` (`tagged.py`) is made of another arm's documents; the curation run need not know it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from alignment.contamination import Contamination, contamination_identity, find_contaminated
from alignment.corpus import Corpus, duplicates, identity, read_corpus
from alignment.encoded import Encoded, encode, plain_encoder, trained
from alignment.slots import ABSENT, ArmDocuments, Piece, Pool, Slots, align, matched, slot_lengths, unmatched
from alignment.stream import fates, whole_rows, write_documents
from alignment.tagged import (
    ARM,
    TOKENIZER,
    Tagged,
    TaggedSettings,
    add_tags,
    misaligned_texts,
    save_tagged_tokenizer,
    tag_ids,
    tagged_sentences,
)
from alignment.tokenizer import SMALLEST, load_tokenizer, special_ids, tokenizer_sha256
from alignment.tokens import MANIFEST, TokenFolder, check_arms, write_tokens
from curation.errors import ConfigError, Problem
from curation.filters.decontamination import DecontaminationSettings
from curation.fingerprint import fingerprint
from curation.finished_run import FinishedRun, load_run
from curation.seeding import derive_seed, unit_hash
from curation.settings import GrownSettings

I64 = npt.NDArray[np.int64]
DOCUMENTS = "documents.parquet"


class TokensSettings(GrownSettings):
    """How texts become training tokens."""

    later: ClassVar[frozenset[str]] = frozenset({"topic", "tagged"})

    vocabulary: int = Field(default=4096, ge=SMALLEST)  # what the sizes 1m and 3m are named for
    context: int = Field(default=256, ge=2)  # tokens that a training row predicts
    regime: Literal["matched", "unmatched"] = "matched"  # fill what an arm lacks, or train it on fewer tokens
    # Which of the arm's own documents, all clean by its ruleset, fill it; topics only where `topic` says what they are.
    replacement: Literal["same_source", "any_source", "same_topic"] = "same_source"
    topic: tuple[str, ...] = ()  # metadata fields: the first that a document has is its topic
    tagged: TaggedSettings | None = None  # makes the arm `tagged`
    held_out: float = Field(default=0.01, ge=0.0, lt=1.0)  # share of the documents kept for validation
    budget: int | None = Field(default=None, ge=2)  # training tokens at most; None: all
    # Twice a sample's size moves few merges; 200 MB take the trainer about a minute and 2 GB of memory.
    tokenizer_bytes: int = Field(default=200_000_000, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.replacement == "same_topic") != bool(self.topic):
            raise ValueError("`replacement: same_topic` and `topic`, the metadata fields that name it, belong together")
        return self


def arm_tokens(
    run: str | Path,
    folder: Path,
    settings: TokensSettings,
    seed: int,
    arms: Sequence[str] | None = None,
    tokenizer: str | Path | None = None,
    evaluation: DecontaminationSettings | None = None,
) -> dict[str, TokenFolder]:
    """Make, or find finished, the tokens of several arms.

    Args:
        run: a finished curation run.
        seed: of the order, the held-out documents and the replacements.
        arms: None: all, in the order of the run. The first is the one whose documents set the lengths of slots.
        tokenizer: a Hugging Face directory or hub name to use; None: train one on the texts of these arms.
        evaluation: items that no arm may contain; None: nothing is looked for.

    Returns:
        arm → its tokens. The tokenizer lies in `folder/tokenizer`, that of the arm `tagged` in `tokenizer-tagged`.

    Raises:
        ConfigError: no such run or arm, an unusable tokenizer, or `folder` holds what other settings made.
        DataContractError: a shard is damaged, or counts differ between arms.
    """
    found = load_run(str(run))
    names = arm_names(found, settings, arms)
    mark = _mark(
        found, [name for name in names if name != _tagged_arm(settings)], settings, seed, tokenizer, evaluation
    )
    done = _finished(folder, names, mark)
    if done is not None:
        return done
    corpus = read_corpus(found, [name for name in names if name != _tagged_arm(settings)], settings.topic)
    chosen = (
        load_tokenizer(tokenizer)
        if tokenizer is not None
        else trained(corpus, settings.vocabulary, settings.tokenizer_bytes, seed)
    )
    if settings.tagged is not None:
        add_tags(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    chosen.save_pretrained(folder / "tokenizer")
    encoded = encode(corpus, chosen, folder / "work")
    dirty = Contamination(()) if evaluation is None else find_contaminated(corpus.texts(), evaluation)
    tags = None if settings.tagged is None else _tags(corpus, settings.tagged, chosen, seed)
    sha256 = tokenizer_sha256(chosen)
    writer = _Writer(corpus, settings, seed, encoded, special_ids(chosen), len(chosen), sha256, mark, dirty, tags)
    folders = writer.write(folder, _held_out(corpus, settings.held_out, seed))
    shutil.rmtree(folder / "work")
    check_arms(folders, counts=settings.regime == "matched")
    return folders


def arm_names(run: FinishedRun, settings: TokensSettings, arms: Sequence[str] | None) -> list[str]:
    """The arms that are laid: those asked for or all of the run, and `tagged` where the settings make it."""
    names = list(arms) if arms else list(run.manifest["arm_order"])
    if settings.tagged is not None and ARM in run.manifest["arm_order"]:
        what = f"the corpus has an arm `{ARM}` of its own"
        raise ConfigError(Problem("two-arms", what, "tokens.tagged", hint="leave `tokens.tagged` out"))
    return names if settings.tagged is None or ARM in names else [*names, ARM]


def _tagged_arm(settings: TokensSettings) -> str | None:
    return None if settings.tagged is None else ARM


def _mark(
    run: FinishedRun,
    names: Sequence[str],
    settings: TokensSettings,
    seed: int,
    tokenizer: str | Path | None,
    evaluation: DecontaminationSettings | None,
) -> str:
    plain = {
        "settings": settings.model_dump(),
        "seed": seed,
        "shards": identity(run, names),
        "tokenizer": tokenizer_sha256(load_tokenizer(tokenizer)) if tokenizer is not None else None,
    }
    if evaluation is not None:
        plain["evaluation"] = contamination_identity(evaluation)
    return fingerprint(plain)


def _tags(corpus: Corpus, settings: TaggedSettings, tokenizer: Any, seed: int) -> Tagged:
    """The tags of every text of the tagged arm; with their ids where sentences have tags of their own."""
    good, bad = tag_ids(tokenizer)
    ids = special_ids(tokenizer)
    found = Tagged(settings, seed, good, bad, ids["bos"], ids["eos"], misaligned_texts(corpus, settings))
    if settings.unit == "sentence":
        wanted = set(corpus.arms[settings.of].texts.tolist())
        texts = ((number, text) for number, text in enumerate(corpus.texts()) if number in wanted)
        found.sentences = tagged_sentences(texts, plain_encoder(tokenizer).encode, found)
    return found


def _finished(folder: Path, names: Sequence[str], mark: str) -> dict[str, TokenFolder] | None:
    """What an earlier call made of the same texts and settings; None when it did not get to the end."""
    there = {name: TokenFolder.open(folder / name) for name in names if (folder / name / MANIFEST).is_file()}
    for name, tokens in there.items():
        if tokens.facts.get("fingerprint") != mark:
            hint = "another output path, or delete the old one"
            what = "made by other settings or texts"
            raise ConfigError(Problem("other-tokens", what, str(folder / name), mark, hint))
    return there if len(there) == len(names) else None


def _held_out(corpus: Corpus, share: float, seed: int) -> dict[str, int]:
    """doc_id → text of the documents for validation: those whose id hashes below `share` and that every arm has alike.

    Documents with a copy elsewhere in the run stay out: an arm that keeps the copy would have trained on it.
    """
    salt = derive_seed(seed, "tokens", "held out")
    copies = duplicates(corpus.run)
    rest: dict[str, int] | None = None
    for documents in corpus.arms.values():
        seen = Counter(documents.doc_ids)
        here = {
            doc_id: text
            for doc_id, text in zip(documents.doc_ids, documents.texts.tolist(), strict=True)
            if unit_hash(doc_id, salt) < share
            and seen[doc_id] == 1
            and doc_id not in copies
            and text not in corpus.blank
        }
        rest = here if rest is None else {doc_id: text for doc_id, text in rest.items() if here.get(doc_id) == text}
    return dict(sorted((rest or {}).items()))


@dataclass(frozen=True)
class _Writer:
    corpus: Corpus
    settings: TokensSettings
    seed: int
    encoded: Encoded
    special: dict[str, int]
    vocabulary: int
    tokenizer_sha256: str
    fingerprint: str
    dirty: Contamination
    tags: Tagged | None

    def write(self, folder: Path, held_out: Mapping[str, int]) -> dict[str, TokenFolder]:
        """One token folder an arm; `held_out`: doc_id → text of the documents for validation."""
        spoilt = self._spoilt()
        held_out = {doc_id: text for doc_id, text in held_out.items() if doc_id not in spoilt}
        held_texts = set(held_out.values())
        arms, skipped = {}, {}
        for name, documents in self._documents().items():
            arms[name], skipped[name] = self._usable(documents, held_texts, spoilt)
            if not arms[name].doc_ids:
                what = f"arm `{name}` has no document to train on"
                raise ConfigError(Problem("empty-arm", what, str(folder), hint="leave the arm out"))
        slots = align(arms, self.seed)
        wanted = slot_lengths(slots, arms, self.encoded.lengths)
        if self.settings.budget is not None:
            wanted = wanted[: int(np.searchsorted(np.cumsum(wanted), self.settings.budget)) + 1]
        validation = [self.encoded.first(text, int(self.encoded.lengths[text])) for text in held_out.values()]
        shared = {
            "fingerprint": self.fingerprint,
            "tokenizer_sha256": self.tokenizer_sha256,
            "seed": self.seed,
            "regime": self.settings.regime,
            "validation_documents": len(held_out),
            "validation_bytes": sum(self.corpus.bytes_of[text] for text in held_out.values()),
        }
        folders = {}
        for name in arms:
            pieces, facts = self._layout(name, arms, slots, wanted)
            facts["documents"] = fates(pieces, arms[name], self.encoded.lengths, skipped[name])
            if self.dirty.files:
                facts["contamination"] = self._contamination(self._documents()[name], spoilt)
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_documents(folder / name / DOCUMENTS, pieces, slots, arms[name], self.encoded.lengths, skipped[name])
            tagged, facts = self._tagged(name, folder, pieces, arms[name], {"arm": name, **shared, **facts})
            folders[name] = write_tokens(
                folder / name,
                self._stream(pieces, arms[name], tagged),
                validation if tagged is None else (_begun(ids, tagged.good) for ids in validation),
                context=self.settings.context,
                vocabulary=self.vocabulary,
                ids=self.special if tagged is None else {**self.special, "bos": tagged.good},
                facts=facts,
            )
        return folders

    def _documents(self) -> dict[str, ArmDocuments]:
        """The documents of every arm, those of `tagged` too."""
        if self.tags is None:
            return self.corpus.arms
        return {**self.corpus.arms, ARM: self.corpus.arms[self.tags.settings.of]}

    def _tagged(
        self, name: str, folder: Path, pieces: Sequence[Piece], documents: ArmDocuments, facts: dict[str, Any]
    ) -> tuple[Tagged | None, dict[str, Any]]:
        """The tags, where this arm has them, and what its `tokens.json` says then."""
        if self.tags is None or name != ARM:
            return None, facts
        lost = sum(self._ids(piece, documents, self.tags)[1] for piece in pieces if piece.document != ABSENT)
        own = tokenizer_sha256(save_tagged_tokenizer(folder))
        tags = {**self.tags.facts(documents), "lost_tokens": lost}
        said = {"tokenizer": TOKENIZER, "tokenizer_sha256": own}
        untagged = {"untagged_tokenizer_sha256": self.tokenizer_sha256, "untagged_bos": self.special["bos"]}
        return self.tags, {**facts, **said, **untagged, "tags": tags}

    def _spoilt(self) -> set[str]:
        """Ids of the documents that contain an evaluation item in any arm."""
        dirty = self.dirty.texts
        return {
            doc_id
            for documents in self.corpus.arms.values()
            for doc_id, text in zip(documents.doc_ids, documents.texts.tolist(), strict=True)
            if text in dirty
        }

    def _contamination(self, documents: ArmDocuments, spoilt: set[str]) -> dict[str, Any]:
        """What was left out of one arm: documents, their tokens, and of each evaluation file documents and items."""
        gone = [t for d, t in zip(documents.doc_ids, documents.texts.tolist(), strict=True) if d in spoilt]
        return {
            "documents": len(gone),
            "tokens": int(self.encoded.lengths[gone].sum()) if gone else 0,
            "files": self.dirty.counts([text for text in gone if text in self.dirty.texts]),
        }

    def _usable(
        self, documents: ArmDocuments, held_texts: set[int], spoilt: set[str]
    ) -> tuple[ArmDocuments, list[tuple[str, str]]]:
        """The documents to train on, and (doc_id, fate) of the others. Copies of a held-out text are held out too."""
        keep, skipped = [], []
        for number, text in enumerate(documents.texts.tolist()):
            if text in self.corpus.blank:
                skipped.append((documents.doc_ids[number], "skipped_empty"))
            elif documents.doc_ids[number] in spoilt:
                skipped.append((documents.doc_ids[number], "skipped_contaminated"))
            elif text in held_texts:
                skipped.append((documents.doc_ids[number], "skipped_held_out"))
            else:
                keep.append(number)
        ids = [documents.doc_ids[number] for number in keep]
        sources = [documents.sources[number] for number in keep]
        topics = [documents.topics[number] for number in keep] if documents.topics else ()
        return ArmDocuments(ids, documents.texts[keep], sources, topics), skipped

    def _layout(
        self, name: str, arms: Mapping[str, ArmDocuments], slots: Slots, wanted: I64
    ) -> tuple[list[Piece], dict[str, Any]]:
        """The pieces of an arm's stream, cut to whole rows, and what replaced how much."""
        documents, lengths = arms[name], self.encoded.lengths
        context, budget, policy = self.settings.context, self.settings.budget, self.settings.replacement
        if self.settings.regime == "unmatched":
            return whole_rows(list(unmatched(slots, name, documents, lengths, wanted)), context, budget), {}
        sources = None if policy == "any_source" else _slot_labels(slots, arms, {n: d.sources for n, d in arms.items()})
        topics = _slot_labels(slots, arms, {n: d.topics for n, d in arms.items()}) if policy == "same_topic" else None
        pool = Pool(documents, lengths[documents.texts], self.seed, sources, topics)
        pieces = whole_rows(list(matched(slots, name, documents, lengths, wanted, pool)), context, budget)
        replaced = [piece for piece in pieces if piece.replaces]
        facts = {
            "policy": policy,
            "slots": len({piece.slot for piece in replaced}),
            "documents": sum(piece.document != ABSENT for piece in replaced),
            "tokens": sum(piece.tokens for piece in replaced),
            "end_of_text_tokens": sum(piece.tokens for piece in replaced if piece.document == ABSENT),
            "cut_tokens": pool.cut,
            "most_uses_of_one": max(pool.used.values(), default=0),
        }
        return pieces, {"replacement": facts if topics is None else {**facts, "off_topic_tokens": pool.off_topic}}

    def _stream(
        self, pieces: Sequence[Piece], documents: ArmDocuments, tagged: Tagged | None
    ) -> Iterator[npt.NDArray[Any]]:
        for piece in pieces:
            if piece.document == ABSENT:
                yield np.full(piece.tokens, self.special["eos"])
            else:
                yield self._ids(piece, documents, tagged)[0]

    def _ids(self, piece: Piece, documents: ArmDocuments, tagged: Tagged | None) -> tuple[npt.NDArray[Any], int]:
        """The ids of a piece that is of a document, and how many of its tokens its tags took the room of."""
        text = int(documents.texts[piece.document])
        plain = self.encoded.first(text, piece.tokens)
        return (plain, 0) if tagged is None else tagged.ids(documents.doc_ids[piece.document], text, plain)


def _begun(ids: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
    found = np.array(ids)
    found[0] = first
    return found


def _slot_labels(slots: Slots, arms: Mapping[str, ArmDocuments], labels: Mapping[str, Sequence[str]]) -> list[str]:
    """The label of each slot: that of its document in the first arm that has it."""
    found = [""] * len(slots.doc_ids)
    for name in reversed(list(arms)):
        for slot, document in enumerate(slots.at[name].tolist()):
            if document != ABSENT:
                found[slot] = labels[name][document]
    return found
