"""Stack examples → what both stages and the cues say of them: the matrices that the context layers are fitted on.

Each group of examples is read by its own pair of models: the fold's, which never saw the example's source, or the
shipped pair for what nobody learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifiers.calibration import Calibration, fit_isotonic
from classifiers.cascade import Mix, holding
from classifiers.context import ContextReader, Mask, demeaning_entries, document_matrix, in_context, read_cues
from classifiers.encoder import Encoder, Reading, read_windows
from classifiers.encoder_data import TrainingText
from classifiers.encoder_job import EncoderJob
from classifiers.fit import Corpus, FastTextSettings, train_model
from classifiers.labelled import Row
from classifiers.stack_examples import FINAL, StackExample
from classifiers.tokens import Tokens, tokenize
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import Windows, cut
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Hits, Matcher
from curation.seeding import derive_seed, unit_hash

F64 = npt.NDArray[np.float64]
DEMEANING = frozenset({"slur", "hate_ideology"})
READ_FROM = 0.05  # while fitting, nearly all windows are read, so that the layers serve any budget


@dataclass(frozen=True)
class Stages:
    """Two stages that belong together."""

    first: FastTextToxicity
    encoder: Encoder


def load_stages(job: EncoderJob, texts: Sequence[TrainingText], folds: Sequence[int]) -> dict[int, Stages]:
    """The pair of every fold and the shipped pair (FINAL); a fold's first stage is trained here if it is not there."""
    stages = {}
    for fold in folds:
        folder = Path(job.output if fold == FINAL else job.work)
        name = "encoder" if fold == FINAL else f"fold{fold}"
        encoder = Encoder(folder / f"{name}.onnx", folder / f"{name}.tokenizer.json")
        if fold == FINAL:
            card = folder / "toxicity.json"
            first = FastTextToxicity(folder / "toxicity.ftz", Calibration.load(card, "calibration"))
        else:
            first = _first_stage(job, [t for t in texts if t.fold != fold and not t.frame], folder / f"{name}.ftz")
        stages[fold] = Stages(first, encoder)
    return stages


def _first_stage(job: EncoderJob, texts: Sequence[TrainingText], path: Path) -> FastTextToxicity:
    """A fastText model of the texts whose `toxic` is known, calibrated on a tenth of them."""
    known = [t for t in texts if not np.isnan(t.labels[0])]
    rows = [Row(t.source, t.id, t.text, bool(t.labels[0]), t.key) for t in known]
    tokens = tokenize(TextBatch.of([row.text for row in rows]))
    tenth = np.array([unit_hash(t.key, derive_seed(job.seed, "first", "calibration")) < 0.1 for t in known])
    corpus = Corpus(
        rows, tokens, cut(tokens, job.windows), np.array([t.labels[0] for t in known], np.float64),
        np.where(tenth, "calibration", "train"), np.array([t.source for t in known]),
    )  # fmt: skip
    if not path.is_file():
        train_model(corpus, ~tenth, path, FastTextSettings(), job.windows, job.seed)
    logits = FastTextToxicity(path, Calibration((-1e9, 1e9), (-1e9, 1e9))).logits(tokens, corpus.windows)
    held = tenth[corpus.windows.row]
    return FastTextToxicity(path, fit_isotonic(logits[held], corpus.toxic[corpus.windows.row][held]))


class Remembering:
    """An encoder that reads every text once: threads are made of texts that are read by themselves too."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.seen: dict[tuple[str, tuple[tuple[int, int], ...]], tuple[F64, F64]] = {}

    def read(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[F64, F64]:
        """As `Encoder.read`."""
        key = (text, tuple(spans))
        if key not in self.seen:
            self.seen[key] = self.encoder.read(text, spans)
        return self.seen[key]


@dataclass(frozen=True)
class Group:
    """The examples of one pair of models, with everything read off them."""

    examples: Sequence[StackExample]
    batch: TextBatch
    tokens: Tokens
    windows: Windows
    hits: Hits
    first: F64  # first-stage probability of every window
    reading: Reading
    demeaning: Mask  # per hit


def read_group(examples: Sequence[StackExample], stages: Stages, job: EncoderJob, matcher: Matcher) -> Group:
    """Tokens, windows, mentions and both stages' answers."""
    batch = TextBatch.of([e.text for e in examples])
    tokens = tokenize(batch)
    windows = cut(tokens, job.windows)
    hits = matcher.find(batch)
    named = demeaning_entries(matcher.lexicon.entries, DEMEANING)
    demeaning = np.asarray(named[hits.entry] & ~hits.guarded)
    first = stages.first.probabilities(tokens, windows)
    asked = (first >= READ_FROM) | holding(hits, demeaning, tokens, windows)
    reading = read_windows(Remembering(stages.encoder), batch.array, tokens, windows, hits, asked)
    return Group(examples, batch, tokens, windows, hits, first, reading, demeaning)


def read_all(examples: Sequence[StackExample], stages: Mapping[int, Stages], job: EncoderJob) -> list[Group]:
    """The examples by the pair of models that reads them."""
    matcher = Matcher(load_lexicon("english"))
    return [
        read_group([e for e in examples if e.fold == fold], stages[fold], job, matcher)
        for fold in sorted({e.fold for e in examples})
    ]


def window_probability(group: Group, mix: Mix, low: float) -> F64:
    """Cascade probability of every window when windows from `low` on, and those with a demeaning term, are read."""
    read = group.reading.asked & (
        (group.first >= low) | holding(group.hits, group.demeaning, group.tokens, group.windows)
    )
    return np.where(read, mix.probability(group.first, group.reading.text), group.first)


def mention_features(group: Group, reader: ContextReader, toxicity: F64) -> tuple[F64, npt.NDArray[np.int64], F64]:
    """The mention matrix, and the cues and rates that the document matrix needs as well."""
    cues, rates, _ = read_cues(reader, group.batch, group.tokens, group.windows, toxicity, group.hits)
    matrix = reader.mention_matrix(
        group.batch, group.tokens, group.windows, toxicity, group.reading, group.hits, cues, rates
    )
    return matrix, cues, rates


def document_features(
    group: Group, reader: ContextReader, toxicity: F64, use: F64, cues: npt.NDArray[np.int64], rates: F64
) -> F64:
    """The document matrix, given P(use) of every mention."""
    read, kept = in_context(group.tokens, group.windows, toxicity, group.hits, use, reader.category_demeans(group.hits))
    return document_matrix(
        group.tokens, group.windows, read, kept, group.reading, cues, rates, group.hits, use, group.demeaning,
        reader.term_rates(group.tokens, group.hits),
    )  # fmt: skip


def labels_of_hits(group: Group) -> npt.NDArray[np.int64]:
    """The label of every hit: its example's role where the spans agree, else -1."""
    known = [dict(zip(e.spans, e.roles, strict=True)) for e in group.examples]
    places = zip(group.hits.row.tolist(), group.hits.start.tolist(), group.hits.end.tolist(), strict=True)
    return np.array([known[row].get((start, end), -1) for row, start, end in places], np.int64)
