"""What the layers over both stages learn from: labelled texts no stage has seen, threads of them, written examples.

A text of a set that belongs to fold k is read by the models that never saw that fold's sets, so that the layers learn
how far to trust answers about unseen sources. Of the written examples only the frames count that no model learnt from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classifiers.context import demeaning_entries
from classifiers.context_examples import Example, Pool, Reply, thread_examples
from classifiers.encoder_data import (
    DEMEANING,
    SOME_MENTION,
    EncoderSet,
    LabelledRow,
    TrainingText,
    held_frame,
    labelled_rows,
    load_training_texts,
)
from classifiers.encoder_job import EncoderJob
from classifiers.labelled import dotted, read_rows
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.seeding import derive_seed, unit_hash

FINAL = -1  # the models that are shipped; others are read by their fold's
TEXTS_PER_SET = 2500
THREADS = 1200
RUDE_PER_SET = 2500
RUDE = frozenset({"insult", "profanity", "sexual"})


@dataclass(frozen=True)
class StackExample:
    """A text with what is known of it and who must read it."""

    text: str
    toxic: float  # 1, 0 or NaN
    hate: float
    source: str
    key: str
    fold: int
    natural: bool
    spans: tuple[tuple[int, int], ...] = ()
    roles: tuple[int, ...] = ()


def is_test(key: str, seed: int) -> bool:
    """The held-out fifth of the layers' rows. Threads name their split in the key."""
    if key.removeprefix("train").removeprefix("test").isdecimal():
        return key.startswith("test")
    return unit_hash(key, derive_seed(seed, "stack", "test")) < 0.2


def stack_examples(job: EncoderJob, texts: Sequence[TrainingText]) -> list[StackExample]:
    """Natural texts (at most TEXTS_PER_SET of a set), threads, and written examples of held frames."""
    rng = np.random.default_rng(derive_seed(job.seed, "stack", "draw"))
    natural: list[StackExample] = []
    by_source: dict[str, list[TrainingText]] = {}
    for text in texts:
        if text.fold >= 0:
            by_source.setdefault(text.source, []).append(text)
    for source in sorted(by_source):
        mine = by_source[source]
        chosen = rng.permutation(len(mine))[:TEXTS_PER_SET]
        natural += [_of(mine[k]) for k in sorted(chosen.tolist())]
    natural += _ordinary(job)
    written = [_of(t) for t in texts if t.frame and held_frame(t, job.seed)]
    return [*natural, *written, *_threads(job, natural), *rude_documents(job)]


def _of(text: TrainingText) -> StackExample:
    toxic, hate, _ = (float(v) for v in text.labels)
    fold = FINAL if text.frame else text.fold
    return StackExample(text.text, toxic, hate, text.source, text.key, fold, not text.frame, text.spans, text.roles)


def _ordinary(job: EncoderJob) -> list[StackExample]:
    """Ordinary text that no model learnt from: the rows of the clean sets beyond their limits."""
    found = []
    for spec in job.sets:
        if spec.clean and spec.limit is not None:
            more: EncoderSet = spec.model_copy(update={"limit": spec.limit + TEXTS_PER_SET})
            rows = load_training_texts([more], Path(job.data), job.seed, job.windows, skip=spec.limit)
            found += [replace(_of(row), fold=FINAL) for row in rows]
    return found


def rude_documents(job: EncoderJob) -> list[StackExample]:
    """Whole ordinary posts that swear or insult and hold no demeaning term, of sets that no model learnt more than
    the beginnings from: documents that are rude and, nearly all of them, not hateful.

    The labelled sets are collected for hate: by them alone a document layer takes any rudeness for it.
    """
    matcher = Matcher(load_lexicon("english"))
    rude = np.array([e.category in RUDE for e in matcher.lexicon.entries])
    demeaning = demeaning_entries(matcher.lexicon.entries, DEMEANING)
    found: list[StackExample] = []
    for spec in job.sets:
        if not spec.clean or spec.limit is None:
            continue
        rows = _unlearnt(spec, job)
        hits = matcher.find(TextBatch.of([row.text for row in rows]))
        swears = np.bincount(hits.row[rude[hits.entry] & ~hits.guarded], minlength=len(rows)) > 0
        demeans = np.bincount(hits.row[demeaning[hits.entry] & ~hits.guarded], minlength=len(rows)) > 0
        for index in np.flatnonzero(swears & ~demeans)[:RUDE_PER_SET].tolist():
            row, name = rows[index], f"rude/{spec.name}"
            found.append(StackExample(row.text, float("nan"), 0.0, name, f"{name}/{row.group}", FINAL, True))
    return found


def _unlearnt(spec: EncoderSet, job: EncoderJob) -> list[LabelledRow]:
    """The rows that neither an encoder nor `_ordinary` has taken."""
    taken = (spec.limit or 0) + TEXTS_PER_SET
    whole: EncoderSet = spec.model_copy(update={"limit": None})
    return list(labelled_rows(whole, Path(job.data), job.seed))[taken:]


def _threads(job: EncoderJob, natural: Sequence[StackExample]) -> Iterator[StackExample]:
    """Threads of one source's comments, and quoted posts with their replies, read by the source's fold."""
    fold_of = {e.source: e.fold for e in natural}
    replies = list(_replies(job))
    for split in ("train", "test"):
        pools: dict[str, tuple[list[str], list[str]]] = {}
        for e in natural:
            if e.hate == e.hate and is_test(e.key, job.seed) == (split == "test"):
                pools.setdefault(e.source, ([], []))[e.hate == 0].append(e.text)
        drawn = [Pool(source, *pools[source]) for source in sorted(pools)]
        answers = [r for r in replies if is_test(r.key, job.seed) == (split == "test")]
        count = THREADS if split == "train" else THREADS // 4
        threads = [_of_thread(e, fold_of, replies) for e in thread_examples(drawn, answers, split, job.seed, count)]
        yield from _with_roles(threads)


def _with_roles(threads: Sequence[StackExample]) -> Iterator[StackExample]:
    """The threads; in an exchange, every term of an answered post is mentioned, and of an applauded one used."""
    hits = Matcher(load_lexicon("english")).find(TextBatch.of([e.text for e in threads]))
    bounds = np.searchsorted(hits.row, np.arange(len(threads) + 1))
    for index, example in enumerate(threads):
        if example.source.startswith("exchange/"):
            mine = range(int(bounds[index]), int(bounds[index + 1]))
            spans = tuple((int(hits.start[m]), int(hits.end[m])) for m in mine)
            role = 0 if example.hate == 1 else SOME_MENTION
            yield replace(example, spans=spans, roles=(role,) * len(spans))
        else:
            yield example


def _of_thread(example: Example, fold_of: dict[str, int], replies: Sequence[Reply]) -> StackExample:
    source = example.source.removeprefix("thread/")
    fold = fold_of.get(source, fold_of.get(replies[0].source, FINAL) if replies else FINAL)
    return StackExample(example.text, float("nan"), float(example.hateful), example.source, example.key, fold, True)


def _replies(job: EncoderJob) -> Iterator[Reply]:
    """Replies with the post they answer, from sets that have a `context`."""
    for spec in job.sets:
        if spec.counter is None:
            continue
        for raw in read_rows(Path(job.data) / spec.path):
            post = raw.get("context")
            label = str(dotted(raw, spec.counter.field))
            if isinstance(post, str) and post.strip() and label in {"hate", "counterspeech"}:
                yield Reply(post.strip(), raw["text"].strip(), label, spec.name, f"{spec.name}/{raw['id']}")
