"""The document gate, fitted on ordinary text: which documents does it help to read, told by cheap features alone?

1. Ordinary documents are read whole by the shipped models, which then say what they find in each.
2. A logistic layer learns to tell, from the first stage and the word lists, in which documents that is something.
3. Its bound is what the document budget allows on other ordinary text, which is only measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from classifiers.base import WEIGHTS, sha256_of
from classifiers.context import Linear
from classifiers.document_gate import NAMES
from classifiers.evaluate import auroc, rate, with_interval
from classifiers.labelled import every_so_manieth
from classifiers.logistic import fit_logistic, plain
from classifiers.scoring import Scorer, ScoringSettings
from classifiers.windows import WindowSettings
from curation.errors import ConfigError, Problem
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
BUDGETS = (0.02, 0.03, 0.04, 0.05, 0.1)
CHUNK = 2_000  # documents of a batch


class GateSet(Settings):
    """Ordinary text to learn from: the rows `offset`, `offset + step`, … of a file."""

    path: str
    licence: str
    step: int = Field(default=1, ge=1)
    offset: int = Field(default=0, ge=0)


class GateJob(Settings):
    """A `kind: fit` job of `classifier: gate`."""

    kind: Literal["fit"]
    classifier: Literal["gate"]
    data: str
    output: str
    seed: int = 17
    toxicity_model: str = "shipped"
    encoder_model: str = "shipped"
    context_model: str = "shipped"
    windows: WindowSettings = WindowSettings()
    sets: tuple[GateSet, ...] = Field(min_length=1)
    # Half the bounds of `curated`: four times as many documents to learn from, and they look alike.
    hateful_from: float = Field(default=0.3, ge=0, le=1, description="context.document_use that counts as found")
    used_from: float = Field(default=0.5, ge=0, le=1, description="context.max_use that counts as found")
    toxic_from: float = Field(default=0.5, ge=0, le=1, description="toxicity.toxicity that counts as found")
    hateful_weight: float = Field(
        default=0.3, ge=0, le=0.5, description="weight of the hateful; of the toxic: 0.5 less it"
    )
    strength: float = Field(default=2000, gt=0, description="effective rows, against a unit normal prior on weights")
    read_windows: int = Field(default=8, ge=1, description="windows that are read of a chosen document, at most")
    budget: float = Field(default=0.045, gt=0, lt=1, description="share of ordinary documents the encoder may read")
    budget_sets: tuple[str, ...] = Field(min_length=1, description="ordinary text to measure the budget on")
    budget_step: int = Field(default=20, ge=1, description="every so manieth row of it")


def fit_gate(job: GateJob) -> dict[str, Any]:
    """Fit the gate; write gate.json and gate.md into `job.output`. Returns the card.

    Raises:
        ConfigError: a model or set that is missing; text in which nothing is found, so that nothing can be learnt.
    """
    from classifiers.cards import gate_card

    settings = ScoringSettings(
        toxicity_model=job.toxicity_model, encoder_model=job.encoder_model, context_model=job.context_model,
        windows=job.windows, second_stage_from=0.0,
    )  # fmt: skip
    scorer = Scorer(settings, {"toxicity", "context"})
    texts = [t for spec in job.sets for t in every_so_manieth(Path(job.data), [spec.path], spec.step, spec.offset)]
    x, _ = _measured(texts, scorer)
    hateful, toxic = _found(texts, scorer, job)
    test = np.array([unit_hash(text, derive_seed(job.seed, "gate", "test")) < 0.1 for text in texts], bool)
    for name, label in (("hateful", hateful), ("toxic", toxic)):
        if not (label[~test].any() and label[test].any()):
            raise ConfigError(
                Problem("nothing-to-learn", f"too few {name} documents among {len(texts):,}", "sets", "more text")
            )
    y = (hateful | toxic).astype(np.int64)
    model = fit_logistic(x[~test], y[~test], _weights(hateful[~test], toxic[~test], job), 2)
    gate = plain(model, NAMES)
    score = model.logits(x)[:, 0]
    threshold, curve = _threshold(job, scorer, model)
    card = {
        "version": "1",
        "files": {},
        "first_stage": sha256_of(_card(job.toxicity_model, "toxicity.json").with_suffix(".ftz")),
        "gate": gate,
        "threshold": threshold,
        "windows": job.read_windows,
        "budget": {"documents": job.budget, "sets": list(job.budget_sets), "step": job.budget_step, "curve": curve},
        "sets": [spec.model_dump(mode="json") for spec in job.sets],
        "rows": {"documents": len(texts), "hateful": int(hateful.sum()), "toxic": int((toxic & ~hateful).sum())},
        "seed": job.seed,
        "metrics": {
            "hateful": with_interval(auroc, score[test], hateful[test].astype(float), job.seed).plain(),
            "toxic": with_interval(auroc, score[test], toxic[test].astype(float), job.seed).plain(),
            "kept": [_kept(share, score[test], hateful[test], toxic[test]) for share in BUDGETS],
        },
    }
    out = Path(job.output)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gate.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (out / "gate.md").write_text(gate_card(card), encoding="utf-8")
    return card


def _card(name: str, shipped: str) -> Path:
    return WEIGHTS / shipped if name == "shipped" else Path(name)


def _chunks(texts: Sequence[str]) -> Iterator[pa.Array]:
    for begin in range(0, len(texts), CHUNK):
        yield pa.array(texts[begin : begin + CHUNK], pa.string())


def _measured(texts: Sequence[str], scorer: Scorer) -> tuple[F64, Mask]:
    """The gate's features of every document, and whether it holds a demeaning term, so that it is read anyway."""
    features, held = zip(*(scorer.gate_features(array) for array in _chunks(texts)), strict=True)
    return np.concatenate(features), np.concatenate(held)


def _found(texts: Sequence[str], scorer: Scorer, job: GateJob) -> tuple[Mask, Mask]:
    """Which documents are hateful or use a term, and which are toxic, when everything is read."""
    hateful, toxic = [], []
    for array in _chunks(texts):
        columns = scorer.score(array)
        used, whole, score = (
            np.nan_to_num(np.asarray(columns[name], np.float64))
            for name in ("context.max_use", "context.document_use", "toxicity.toxicity")
        )
        hateful.append((used >= job.used_from) | (whole >= job.hateful_from))
        toxic.append(score >= job.toxic_from)
    return np.concatenate(hateful), np.concatenate(toxic)


def _weights(hateful: Mask, toxic: Mask, job: GateJob) -> F64:
    """Weights whose sum is `strength`: half of it on the documents in which nothing was found."""
    other, neither = toxic & ~hateful, ~hateful & ~toxic
    weight = np.zeros(len(hateful))
    for chosen, share in ((hateful, job.hateful_weight), (other, 0.5 - job.hateful_weight), (neither, 0.5)):
        weight[chosen] = job.strength * share / max(1, int(chosen.sum()))
    return weight


def _threshold(job: GateJob, scorer: Scorer, model: Linear) -> tuple[float, list[dict[str, float]]]:
    """The log-odds from which at most `budget` of ordinary documents are read, and the bounds of other budgets."""
    x, held = _measured(every_so_manieth(Path(job.data), job.budget_sets, job.budget_step), scorer)
    score = np.where(held, np.inf, model.logits(x)[:, 0])
    order = np.sort(score)[::-1]

    def first_beyond(share: float) -> float:
        return float(order[int(share * len(order))])

    def bound(share: float) -> float:
        return round(first_beyond(share) + 5e-4, 3)

    if not np.isfinite(first_beyond(job.budget)):
        named = f"{100 * held.mean():.1f} % of ordinary documents hold a demeaning term and are read anyway"
        raise ConfigError(Problem("bad-value", named, "budget", "more than that"))
    curve = [{"documents": share, "from": bound(share)} for share in BUDGETS if np.isfinite(first_beyond(share))]
    return bound(job.budget), curve


def _kept(share: float, score: F64, hateful: Mask, toxic: Mask) -> dict[str, Any]:
    """What the `share` of documents with the highest scores holds of what was found."""
    read = np.zeros(len(score), bool)
    read[np.argsort(-score, kind="stable")[: int(share * len(score))]] = True
    return {"documents": share, "hateful": rate(read[hateful]).plain(), "toxic": rate(read[toxic]).plain()}
