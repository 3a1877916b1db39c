"""The arms of a curation run → one tokenizer and one token folder an arm, in lockstep.

    RUN/arms/<name>/part-*.parquet ──▶ FOLDER/tokenizer/            one, trained on the texts of all arms
                                   └─▶ FOLDER/<name>/tokens.bin …   what `alignment/tokens.py` describes
                                       FOLDER/<name>/documents.parquet   where each document went and why

1. read every arm (`corpus.py`); a text that several arms share is one text;
2. hold documents out for validation by the hash of their ids, the same in all arms;
3. encode every distinct text once;
4. lay the documents out slot by slot (`slots.py`) and write the folders; refuse arms whose counts differ.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from alignment.corpus import Corpus, duplicates, identity, read_corpus
from alignment.slots import ABSENT, ArmDocuments, Piece, Pool, Slots, align, matched, slot_lengths, unmatched
from alignment.tokenizer import SMALLEST, load_tokenizer, special_ids, tokenizer_sha256, train_tokenizer
from alignment.tokens import MANIFEST, TokenFolder, check_arms, dtype_of, row_starts, write_tokens
from curation import tokens as corpus_tokens
from curation.errors import ConfigError, Problem
from curation.fingerprint import fingerprint
from curation.finished_run import load_run
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings

I64 = npt.NDArray[np.int64]
DOCUMENTS = "documents.parquet"


class TokensSettings(Settings):
    """How texts become training tokens."""

    vocabulary: int = Field(default=4096, ge=SMALLEST)  # what the sizes 1m and 3m are named for
    context: int = Field(default=256, ge=2)  # tokens that a training row predicts
    regime: Literal["matched", "unmatched"] = "matched"  # fill what an arm lacks, or train it on fewer tokens
    replacement: Literal["same_source", "any_source"] = "same_source"  # which of the arm's documents fill it
    held_out: float = Field(default=0.01, ge=0.0, lt=1.0)  # share of the documents kept for validation
    budget: int | None = Field(default=None, ge=2)  # training tokens at most; None: all
    # Twice a sample's size moves few merges; 200 MB take the trainer about a minute and 2 GB of memory.
    tokenizer_bytes: int = Field(default=200_000_000, ge=1)


def arm_tokens(
    run: str | Path,
    folder: Path,
    settings: TokensSettings,
    seed: int,
    arms: Sequence[str] | None = None,
    tokenizer: str | Path | None = None,
) -> dict[str, TokenFolder]:
    """Make, or find finished, the tokens of several arms.

    Args:
        run: a finished curation run.
        seed: of the order, the held-out documents and the replacements.
        arms: None: all, in the order of the run. The first is the one whose documents set the lengths of slots.
        tokenizer: a Hugging Face directory or hub name to use; None: train one on the texts of these arms.

    Returns:
        arm → its tokens. The tokenizer lies in `folder/tokenizer`.

    Raises:
        ConfigError: no such run or arm, an unusable tokenizer, or `folder` holds what other settings made.
        DataContractError: a shard is damaged, or counts differ between arms.
    """
    found = load_run(str(run))
    names = list(arms) if arms is not None else list(found.manifest["arm_order"])
    mark = fingerprint(
        {
            "settings": settings.model_dump(),
            "seed": seed,
            "shards": identity(found, names),
            "tokenizer": tokenizer_sha256(load_tokenizer(tokenizer)) if tokenizer is not None else None,
        }
    )
    done = _finished(folder, names, mark)
    if done is not None:
        return done
    corpus = read_corpus(found, names)
    chosen = load_tokenizer(tokenizer) if tokenizer is not None else _trained(corpus, settings, seed)
    folder.mkdir(parents=True, exist_ok=True)
    chosen.save_pretrained(folder / "tokenizer")
    encoded = _encode(corpus, chosen, folder / "work")
    writer = _Writer(corpus, settings, seed, encoded, special_ids(chosen), len(chosen), tokenizer_sha256(chosen), mark)
    folders = writer.write(folder, _held_out(corpus, settings.held_out, seed))
    shutil.rmtree(folder / "work")
    check_arms(folders, counts=settings.regime == "matched")
    return folders


def _finished(folder: Path, names: Sequence[str], mark: str) -> dict[str, TokenFolder] | None:
    """What an earlier call made of the same texts and settings; None when it did not get to the end."""
    there = {name: TokenFolder.open(folder / name) for name in names if (folder / name / MANIFEST).is_file()}
    for name, tokens in there.items():
        if tokens.facts.get("fingerprint") != mark:
            hint = "another output path, or delete the old one"
            what = "made by other settings or texts"
            raise ConfigError(Problem("other-tokens", what, str(folder / name), mark, hint))
    return there if len(there) == len(names) else None


def _trained(corpus: Corpus, settings: TokensSettings, seed: int) -> Any:
    """The tokenizer of all arms, from a sample of their distinct texts that their order cannot change."""
    share = min(1.0, settings.tokenizer_bytes / max(1, sum(corpus.bytes_of)))
    salt = derive_seed(seed, "tokenizer", "sample")
    texts = corpus.texts()
    return train_tokenizer(
        texts if share == 1.0 else (text for text in texts if unit_hash(text, salt) < share), settings.vocabulary
    )


@dataclass(frozen=True)
class Encoded:
    """All distinct texts as ids, one after the other: begin, text, end."""

    ids: npt.NDArray[Any]
    offsets: I64  # (texts + 1,)

    @property
    def lengths(self) -> I64:
        return np.diff(self.offsets)

    def first(self, text: int, tokens: int) -> npt.NDArray[Any]:
        begin = int(self.offsets[text])
        return self.ids[begin : begin + tokens]


def _encode(corpus: Corpus, tokenizer: Any, work: Path) -> Encoded:
    inner = corpus_tokens.load_tokenizer(
        tokenizer.backend_tokenizer.to_str().encode(), "tokenizer", str(tokenizer.eos_token)
    )
    bos = np.array([tokenizer.bos_token_id])
    work.mkdir(parents=True, exist_ok=True)
    dtype = dtype_of(len(tokenizer))
    lengths = []
    batch: list[str] = []
    with (work / "ids.bin").open("wb") as stream:

        def flush() -> None:
            for ids in inner.encode(batch):  # the end of text stands last already
                stream.write(np.concatenate((bos, ids)).astype(dtype).tobytes())
                lengths.append(len(ids) + 1)
            batch.clear()

        for text in corpus.texts():
            batch.append(text)
            if len(batch) == corpus_tokens.BATCH:
                flush()
        flush()
    offsets = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64)))).astype(np.int64)
    size = (work / "ids.bin").stat().st_size
    ids = np.memmap(work / "ids.bin", dtype, mode="r") if size else np.zeros(0, dtype)
    return Encoded(ids, offsets)


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

    def write(self, folder: Path, held_out: Mapping[str, int]) -> dict[str, TokenFolder]:
        """One token folder an arm; `held_out`: doc_id → text of the documents for validation."""
        held_texts = set(held_out.values())
        arms, skipped = {}, {}
        for name, documents in self.corpus.arms.items():
            arms[name], skipped[name] = self._usable(documents, held_texts)
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
            facts["documents"] = _fates(pieces, arms[name], self.encoded.lengths, skipped[name])
            (folder / name).mkdir(parents=True, exist_ok=True)
            _write_documents(folder / name / DOCUMENTS, pieces, slots, arms[name], self.encoded.lengths, skipped[name])
            folders[name] = write_tokens(
                folder / name,
                self._stream(pieces, arms[name]),
                validation,
                context=self.settings.context,
                vocabulary=self.vocabulary,
                ids=self.special,
                facts={"arm": name, **shared, **facts},
            )
        return folders

    def _usable(self, documents: ArmDocuments, held_texts: set[int]) -> tuple[ArmDocuments, list[tuple[str, str]]]:
        """The documents to train on, and (doc_id, fate) of the others. Copies of a held-out text are held out too."""
        keep, skipped = [], []
        for number, text in enumerate(documents.texts.tolist()):
            if text in self.corpus.blank:
                skipped.append((documents.doc_ids[number], "skipped_empty"))
            elif text in held_texts:
                skipped.append((documents.doc_ids[number], "skipped_held_out"))
            else:
                keep.append(number)
        ids = [documents.doc_ids[number] for number in keep]
        return ArmDocuments(ids, documents.texts[keep], [documents.sources[number] for number in keep]), skipped

    def _layout(
        self, name: str, arms: Mapping[str, ArmDocuments], slots: Slots, wanted: I64
    ) -> tuple[list[Piece], dict[str, Any]]:
        """The pieces of an arm's stream, cut to whole rows, and what replaced how much."""
        documents, lengths = arms[name], self.encoded.lengths
        if self.settings.regime == "unmatched":
            laid = list(unmatched(slots, name, documents, lengths, wanted))
            return _whole_rows(laid, self.settings), {}
        same = self.settings.replacement == "same_source"
        sources = _slot_sources(slots, arms) if same else None
        pool = Pool(documents, lengths[documents.texts], self.seed, sources)
        pieces = _whole_rows(list(matched(slots, name, documents, lengths, wanted, pool)), self.settings)
        replaced = [piece for piece in pieces if piece.replaces]
        return pieces, {
            "replacement": {
                "policy": self.settings.replacement,
                "slots": len({piece.slot for piece in replaced}),
                "documents": sum(piece.document != ABSENT for piece in replaced),
                "tokens": sum(piece.tokens for piece in replaced),
                "end_of_text_tokens": sum(piece.tokens for piece in replaced if piece.document == ABSENT),
                "cut_tokens": pool.cut,
                "most_uses_of_one": max(pool.used.values(), default=0),
            }
        }

    def _stream(self, pieces: Sequence[Piece], documents: ArmDocuments) -> Iterator[npt.NDArray[Any]]:
        for piece in pieces:
            if piece.document == ABSENT:
                yield np.full(piece.tokens, self.special["eos"])
            else:
                yield self.encoded.first(int(documents.texts[piece.document]), piece.tokens)


def _slot_sources(slots: Slots, arms: Mapping[str, ArmDocuments]) -> list[str]:
    found = [""] * len(slots.doc_ids)
    for name in reversed(list(arms)):
        for slot, document in enumerate(slots.at[name].tolist()):
            if document != ABSENT:
                found[slot] = arms[name].sources[document]
    return found


def _whole_rows(pieces: list[Piece], settings: TokensSettings) -> list[Piece]:
    """The pieces up to the end of the last whole row within the budget."""
    total = sum(piece.tokens for piece in pieces)
    rows = len(row_starts(min(total, settings.budget or total), settings.context))
    room = rows * settings.context + 1 if rows else total  # too few for one row: for the writer to refuse
    kept = []
    for piece in pieces:
        if room == 0:
            break
        tokens = min(room, piece.tokens)
        kept.append(Piece(piece.slot, piece.document, tokens, piece.replaces))
        room -= tokens
    return kept


def _own(pieces: Sequence[Piece]) -> dict[int, Piece]:
    return {piece.document: piece for piece in pieces if not piece.replaces}


def _fates(
    pieces: Sequence[Piece], documents: ArmDocuments, lengths: I64, skipped: Sequence[tuple[str, str]]
) -> dict[str, int]:
    """Fate → documents of the arm; the fates but `read` add up to `read`."""
    own = _own(pieces)
    cut = int(sum(piece.tokens < lengths[documents.texts[number]] for number, piece in own.items()))
    found = Counter({"kept": len(own) - cut, "truncated": cut})
    found["skipped_budget"] = len(documents.doc_ids) - len(own)
    found.update(fate for _, fate in skipped)
    return {"read": sum(found.values()), **{fate: number for fate, number in sorted(found.items()) if number}}


def _write_documents(
    path: Path,
    pieces: Sequence[Piece],
    slots: Slots,
    documents: ArmDocuments,
    lengths: I64,
    skipped: Sequence[tuple[str, str]],
) -> None:
    """One row a piece of the stream, then one a document that is not in it.

    Columns: doc_id; slot: the document whose place it is; start: its first token in the stream; tokens; fate.
    """
    starts = np.cumsum([0, *(piece.tokens for piece in pieces)])[:-1]
    own = _own(pieces)
    rows: list[tuple[str | None, str | None, int | None, int, str]] = []
    for piece, start in zip(pieces, starts.tolist(), strict=True):
        slot = slots.doc_ids[piece.slot]
        if piece.document == ABSENT:
            rows.append((None, slot, start, piece.tokens, "end_of_text"))
            continue
        whole = piece.tokens == lengths[documents.texts[piece.document]]
        fate = "replacement" if piece.replaces else "kept" if whole else "truncated"
        rows.append((documents.doc_ids[piece.document], slot, start, piece.tokens, fate))
    rows += [(doc_id, None, None, 0, "skipped_budget") for n, doc_id in enumerate(documents.doc_ids) if n not in own]
    rows += [(doc_id, None, None, 0, fate) for doc_id, fate in skipped]
    types = {"doc_id": pa.string(), "slot": pa.string(), "start": pa.int64(), "tokens": pa.int64(), "fate": pa.string()}
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    table = pa.table(
        {name: pa.array(column, kind) for (name, kind), column in zip(types.items(), columns, strict=True)}
    )
    pq.write_table(table, path)
