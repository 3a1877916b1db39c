"""Fit jobs: labelled sets → a model, its calibration, its thresholds, its card. Deterministic given the seed.

`fit_toxicity` is here; the encoder is in `fit_encoder.py`, the layers over both stages in `fit_context.py`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from classifiers.calibration import Calibration, expected_calibration_error, fit_isotonic
from classifiers.evaluate import auroc, average_precision, recall_at_fpr, with_interval
from classifiers.labelled import LabelledSet, Row, load_set
from classifiers.tokens import Tokens, tokenize
from classifiers.toxicity_fasttext import NEGATIVE, POSITIVE, FastTextToxicity
from classifiers.windows import Windows, WindowSettings, cut, row_top_mean
from curation.errors import ConfigError, Problem
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.settings import Settings

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
IDENTITY = Calibration((-1e9, 1e9), (-1e9, 1e9))
MAX_MODEL_BYTES = 5_000_000


class FastTextSettings(Settings):
    """Training settings, from a sweep of seven read on the test tenth and on the card's unseen sources: AUROC
    differs by at most 0.03 there, and more epochs with a larger learning rate stand at the lower end."""

    dim: int = 16
    epoch: int = 3
    lr: float = 0.1
    buckets: int = 200_000
    word_ngrams: int = 2
    min_count: int = 3
    max_windows: int = 6  # of one clean row, so that a long page does not outweigh a hundred comments


class FitJob(Settings):
    """A `kind: fit` job."""

    kind: Literal["fit"]
    classifier: Literal["toxicity"]
    data: str
    output: str
    seed: int = 17
    sets: tuple[LabelledSet, ...] = Field(min_length=1)
    unseen: tuple[LabelledSet, ...] = ()
    fasttext: FastTextSettings = FastTextSettings()
    windows: WindowSettings = WindowSettings()
    top_share: float = 0.2
    teacher: str | None = Field(default=None, description="card of the encoder that labels unlabelled text")
    # Windows of unlabelled text that the first pass gives at least this much are shown to the teacher: the others are
    # clean beyond doubt, and ten times as many.
    taught_from: float = Field(default=0.05, ge=0, le=1)
    # The stated target of the document threshold: this share of held-out ordinary web text may exceed it.
    web_fpr: float = 0.01


@dataclass(frozen=True)
class Corpus:
    """All rows of a job as one batch, with windows, labels and splits."""

    rows: Sequence[Row]
    tokens: Tokens
    windows: Windows
    toxic: F64
    split: npt.NDArray[np.str_]
    source: npt.NDArray[np.str_]


def load_corpus(job: FitJob, sets: Sequence[LabelledSet]) -> Corpus:
    """Rows of `sets`; unlabelled text that holds a demeaning term is left out, because it may not be clean."""
    root = Path(job.data)
    rows = [row for spec in sets for row in load_set(spec, root, job.seed)]
    unlabelled = {spec.name for spec in sets if spec.all_clean}
    lexicon = load_lexicon("english")
    hits = Matcher(lexicon).find(TextBatch.of([row.text for row in rows]))
    doubtful = np.array([e.category in {"slur", "insult", "hate_ideology"} and e.severity > 0 for e in lexicon.entries])
    suspect = np.zeros(len(rows), bool)
    suspect[hits.row[doubtful[hits.entry] & ~hits.guarded]] = True
    rows = [row for row, bad in zip(rows, suspect, strict=True) if not (bad and row.source in unlabelled)]
    return corpus_of(rows, job)


def fit_toxicity(job: FitJob) -> dict[str, Any]:
    """Train, quantise, calibrate, measure; write toxicity.ftz, .json and .md into `job.output`. Returns the card."""
    from classifiers.cards import toxicity_card

    corpus = as_found = load_corpus(job, job.sets)
    out = Path(job.output)
    out.mkdir(parents=True, exist_ok=True)
    train_model(corpus, corpus.split == "train", out / "toxicity.ftz", job.fasttext, job.windows, job.seed)
    if job.teacher is not None:
        corpus = taught(corpus, job, out / "toxicity.ftz")
        train_model(corpus, corpus.split == "train", out / "toxicity.ftz", job.fasttext, job.windows, job.seed)
    size = (out / "toxicity.ftz").stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ConfigError(Problem("model-size", f"the quantised model has {size} bytes, more than {MAX_MODEL_BYTES}"))
    card = _toxicity_card(job, corpus, as_found, out / "toxicity.ftz")
    (out / "toxicity.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (out / "toxicity.md").write_text(toxicity_card(card), encoding="utf-8")
    return card


def taught(corpus: Corpus, job: FitJob, path: Path) -> Corpus:
    """The corpus with every doubtful window of unlabelled text as a row of its own, labelled by the teacher.

    Ordinary text is where the first stage must not send half of what it finds to the second for nothing, and nobody
    labelled any: so it learns there what the encoder would say (distillation; Hinton et al. 2015, with hard labels).
    """
    from classifiers.encoder import Encoder, window_span
    from classifiers.roles import HATE, TOXIC

    encoder, _, _ = Encoder.load(Path(str(job.teacher)))
    calibration, logits, _ = calibrate(corpus, path, corpus.split == "calibration")
    unlabelled = np.isin(corpus.source, [spec.name for spec in job.sets if spec.all_clean])
    doubtful = (calibration.apply(logits) >= job.taught_from) & unlabelled[corpus.windows.row]
    rows: list[Row] = []
    hurt: set[int] = set()
    for w in np.flatnonzero(doubtful).tolist():
        index = int(corpus.windows.row[w])
        row = corpus.rows[index]
        start, end = window_span(row.text, corpus.tokens, corpus.windows, w)
        answer, _ = encoder.read(row.text[start:end], [])
        toxic = bool(max(answer[TOXIC], answer[HATE]) >= 0)
        rows.append(Row(row.source, f"{row.id}/{w}", row.text[start:end], toxic, row.group))
        if toxic:
            hurt.add(index)
    kept = [row for index, row in enumerate(corpus.rows) if index not in hurt]
    return corpus_of([*kept, *rows], job)


def corpus_of(rows: Sequence[Row], job: FitJob) -> Corpus:
    """Rows with their tokens, windows, labels and splits."""
    tokens = tokenize(TextBatch.of([row.text for row in rows]))
    return Corpus(
        rows,
        tokens,
        cut(tokens, job.windows),
        np.array([row.toxic for row in rows], np.float64),
        np.array([row.split(job.seed) for row in rows]),
        np.array([row.source for row in rows]),
    )


def train_model(
    corpus: Corpus, chosen: Mask, path: Path, settings: FastTextSettings, windows: WindowSettings, seed: int
) -> None:
    """A quantised fastText model of the chosen rows, written to `path`; one thread, so the same bytes each time."""
    import fasttext

    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "train.txt"
        found = training_lines(corpus, chosen, settings.max_windows, windows, seed)
        lines.write_text("\n".join(found) + "\n", encoding="utf-8")
        model = fasttext.train_supervised(
            str(lines), dim=settings.dim, epoch=settings.epoch, lr=settings.lr, bucket=settings.buckets,
            wordNgrams=settings.word_ngrams, minCount=settings.min_count, minn=0, maxn=0,
            thread=1, seed=seed, verbose=0,
        )  # fmt: skip
        model.quantize(qnorm=True, retrain=False, dsub=2)
        model.save_model(str(path))


def calibrate(corpus: Corpus, path: Path, chosen: Mask) -> tuple[Calibration, F64, Mask]:
    """The calibration of the model in `path` on the chosen rows, all window logits, and the windows that have a label.

    A toxic row's label is true of its worst window, a clean row's of all of them.
    """
    windows = corpus.windows
    logits = FastTextToxicity(path, IDENTITY).logits(corpus.tokens, windows)
    usable = corpus.toxic[windows.row] == 0
    for index in np.flatnonzero(corpus.toxic).tolist():
        a, b = windows.bounds[index], windows.bounds[index + 1]
        if b > a:
            usable[a + int(np.argmax(logits[a:b]))] = True
    held = usable & chosen[windows.row]
    return fit_isotonic(logits[held], corpus.toxic[windows.row][held]), logits, usable


def training_lines(corpus: Corpus, chosen: Mask, max_windows: int, settings: WindowSettings, seed: int) -> list[str]:
    """fastText lines of the chosen rows, shuffled by seed: a window each, but a toxic row whole.

    Nobody labelled which window of a toxic comment is toxic, so its first two windows' worth of words stay together.
    """
    windows, tokens = corpus.windows, corpus.tokens
    words = tokens.data.tobytes()

    def line(label: str, first: int, last: int) -> str:
        cuts = tokens.offsets[first : last + 1].tolist()
        pieces = [words[a:b].decode("utf-8", "ignore") for a, b in pairwise(cuts)]
        return f"{label} {' '.join(pieces)}"

    lines = []
    for index in np.flatnonzero(chosen).tolist():
        a, b = int(windows.bounds[index]), int(windows.bounds[index + 1])
        if a == b:
            continue
        if corpus.toxic[index]:
            stop = min(int(windows.last[b - 1]), int(windows.first[a]) + 2 * settings.max_tokens)
            lines.append(line(POSITIVE, int(windows.first[a]), stop))
        else:
            stop = min(b, a + max_windows)
            lines += [line(NEGATIVE, int(windows.first[w]), int(windows.last[w])) for w in range(a, stop)]
    order = np.random.default_rng(seed).permutation(len(lines))
    return [lines[k] for k in order]


def document_scores(model: FastTextToxicity, corpus: Corpus, top_share: float) -> F64:
    """Calibrated document score of every row, by the scorer's own rule."""
    values = row_top_mean(model.probabilities(corpus.tokens, corpus.windows), corpus.windows.bounds, top_share)
    return np.nan_to_num(values)


def _toxicity_card(job: FitJob, corpus: Corpus, as_found: Corpus, path: Path) -> dict[str, Any]:
    """The card; `as_found` is the corpus before any teaching: its ordinary texts are whole, not picked by doubt."""
    windows = corpus.windows
    calibration, logits, usable = calibrate(corpus, path, corpus.split == "calibration")
    toxic_window = corpus.toxic[windows.row]
    model = FastTextToxicity(path, calibration)
    probability = calibration.apply(logits)
    score = document_scores(model, corpus, job.top_share)
    test = corpus.split == "test"
    test_windows = usable & (corpus.split[windows.row] == "test")
    ordinary = [s.name for s in job.sets if s.all_clean]
    web = document_scores(model, as_found, job.top_share)[
        np.isin(as_found.source, ordinary) & (as_found.split == "calibration")
    ]
    per_set = {
        name: _metrics(score[chosen], corpus.toxic[chosen], job.seed)
        for name in sorted({spec.name for spec in job.sets})
        for chosen in [test & (corpus.source == name)]
        if chosen.any() and 0 < corpus.toxic[chosen].mean() < 1
    }
    unseen = {}
    for spec in job.unseen:
        other = load_corpus(job, [spec])
        unseen[spec.name] = _metrics(document_scores(model, other, job.top_share), other.toxic, job.seed)
    return {
        "version": "1",
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()},
        "calibration": calibration.plain(),
        "threshold": round(float(np.quantile(web, 1 - job.web_fpr)), 4),
        "sets": [spec.model_dump(mode="json", exclude_defaults=True) for spec in job.sets],
        "unseen_sets": [spec.name for spec in job.unseen],
        "rows": {"toxic": int(corpus.toxic.sum()), "clean": int((1 - corpus.toxic).sum())},
        "settings": job.fasttext.model_dump(mode="json"),
        "seed": job.seed,
        "bytes": path.stat().st_size,
        "metrics": {
            "all": _metrics(score[test], corpus.toxic[test], job.seed),
            "sets": per_set,
            "unseen": unseen,
            "ece_windows": round(expected_calibration_error(probability[test_windows], toxic_window[test_windows]), 4),
            "web_above_half": round(float((web >= 0.5).mean()), 4),
        },
    }


def _metrics(score: F64, toxic: F64, seed: int) -> dict[str, Any]:
    return {
        "auroc": with_interval(auroc, score, toxic, seed).plain(),
        "auprc": with_interval(average_precision, score, toxic, seed).plain(),
        "recall_at_5_percent_fpr": round(recall_at_fpr(score, toxic, 0.05), 4),
        "toxic_share": round(float(toxic.mean()), 4),
    }
