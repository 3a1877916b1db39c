"""The second stage in one job: encoder, folds, the cascade's mix and budget, the context layers, the cards.

1. Encoders: the shipped one and one per fold (`fit_encoder.py`); those that are there are not trained again.
2. Texts are read by models that never saw their source (`stack_examples.py`, `stack_measure.py`).
3. The mix of both stages, P(use) of a mention, its kind, P(hateful) of a document: four logistic layers.
4. `low`, the first-stage probability from which a window is read, is what the document budget allows on ordinary text.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers import context_features as features
from classifiers.calibration import expected_calibration_error
from classifiers.cascade import MIXED, Mix, holding, mix_matrix
from classifiers.context import ContextReader, Linear, demeaning_entries, sigmoid
from classifiers.encoder_data import SOME_MENTION, TrainingText
from classifiers.encoder_job import EncoderJob, job_texts
from classifiers.evaluate import auroc, rate, with_interval
from classifiers.labelled import every_so_manieth
from classifiers.logistic import Table, fit_logistic, plain
from classifiers.roles import MENTION_ROLES
from classifiers.stack_examples import FINAL, is_test, stack_examples
from classifiers.stack_measure import (
    DEMEANING,
    Group,
    Stages,
    document_features,
    labels_of_hits,
    load_stages,
    mention_features,
    read_all,
    window_probability,
)
from classifiers.tokens import tokenize
from classifiers.windows import cut, row_top_mean
from curation.errors import ConfigError, Problem
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher

F64 = npt.NDArray[np.float64]
ABSTAIN = (0.4, 0.6)  # between: `uncertain`; the context filter of the rulesets acts from 0.6 as well
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOP_SHARE = 0.2


@dataclass(frozen=True)
class Stack:
    """The fitted layers and the tables they were fitted on."""

    mix: Mix
    use: Linear
    kind: Linear
    document: Linear
    use_table: Table
    kind_table: Table
    document_table: Table
    toxicity: list[F64]  # per group, per window


def fit_context(job: EncoderJob) -> dict[str, Any]:
    """Fit what is missing and all layers; write encoder.json, context.json and their cards into `job.output`."""
    texts = job_texts(job)
    if missing_models(job, texts):
        from classifiers.fit_encoder import fit_models

        fit_models(job, texts)
    examples = stack_examples(job, texts)
    stages = load_stages(job, texts, sorted({e.fold for e in examples}))
    low, curve = choose_low(job, stages[FINAL])
    groups = read_all(examples, stages, job)
    stack = fit_stack(groups, job.seed)
    encoder = encoder_card(job, stack, groups, low, curve)
    context = context_card(job, stack)
    _write(encoder, context, Path(job.output))
    return context


def missing_models(job: EncoderJob, texts: Sequence[TrainingText]) -> bool:
    """Whether an encoder has yet to be trained.

    Raises:
        ConfigError: it has, and torch is not installed.
    """
    folds = {f"fold{t.fold}" for t in texts if t.fold >= 0}
    wanted = [Path(job.output) / "encoder.files.json", *(Path(job.work) / f"{fold}.files.json" for fold in folds)]
    if all(path.is_file() for path in wanted):
        return False
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            Problem("no-package", "training the encoder needs torch", "base", "pip install 'headwater[train]'")
        )
    return True


def choose_low(job: EncoderJob, stages: Stages) -> tuple[float, list[dict[str, float]]]:
    """The lowest first-stage probability at which at most `budget` of ordinary documents are read, and the curve.

    It decides what is read where no document gate does (`fit_gate.py`).

    Ordinary: every `budget_step`-th row of `job.budget_sets`, which are only measured, never learnt from.
    """
    texts = every_so_manieth(Path(job.data), job.budget_sets, job.budget_step)
    batch = TextBatch.of(texts)
    tokens = tokenize(batch)
    windows = cut(tokens, job.windows)
    probability = stages.first.probabilities(tokens, windows)
    lexicon = load_lexicon("english")
    hits = Matcher(lexicon).find(batch)
    named = demeaning_entries(lexicon.entries, DEMEANING)
    held = holding(hits, named[hits.entry] & ~hits.guarded, tokens, windows)
    highest = np.zeros(len(texts))
    np.maximum.at(highest, windows.row, np.where(held, 1.0, probability))
    low = float(np.quantile(highest, 1 - job.budget))
    curve = [
        {
            "from": level,
            "documents": round(float((highest >= level).mean()), 4),
            "windows": round(float(((probability >= level) | held).mean()), 4),
        }
        for level in sorted({*THRESHOLDS, round(low, 4)})
    ]
    return round(low + 5e-5, 4), curve


def fit_stack(groups: Sequence[Group], seed: int) -> Stack:
    """All layers, each on the training four fifths of its table."""
    mix = fit_mix(groups, seed)
    reader = ContextReader(load_lexicon("english"), DEMEANING)
    toxicity = [window_probability(group, mix, 0.0) for group in groups]
    read = [mention_features(group, reader, tox) for group, tox in zip(groups, toxicity, strict=True)]
    attackable = np.array([e.category in DEMEANING | {"insult"} and e.severity > 0 for e in reader.entries], bool)
    parts, kinds = [], []
    for group, (matrix, _, _) in zip(groups, read, strict=True):
        label = labels_of_hits(group)
        known = (label >= 0) & ~group.hits.guarded & attackable[group.hits.entry]
        parts.append(_table(group, matrix, np.where(label == 0, 1, 0), known, group.hits.row, seed))
        kinds.append(_table(group, matrix, label - 1, (label > 0) & (label != SOME_MENTION), group.hits.row, seed))
    use_table, kind_table = _joined(parts), _joined(kinds)
    use = fit_logistic(*_train(use_table), 2)
    kind = fit_logistic(*_train(kind_table), len(MENTION_ROLES))
    documents = []
    for group, tox, (matrix, cues, rates) in zip(groups, toxicity, read, strict=True):
        p_use = np.where(group.hits.guarded, 0.0, sigmoid(use.logits(matrix)[:, 0]))
        found = document_features(group, reader, tox, p_use, cues, rates)
        hate = np.array([e.hate for e in group.examples])
        asked = np.bincount(group.windows.row[group.reading.asked], minlength=len(group.examples)) > 0
        label = np.nan_to_num(hate).astype(np.int64)
        documents.append(_table(group, found, label, ~np.isnan(hate) & asked, np.arange(len(hate)), seed))
    document_table = _joined(documents)
    document = fit_logistic(*_train(document_table), 2)
    return Stack(mix, use, kind, document, use_table, kind_table, document_table, toxicity)


def fit_mix(groups: Sequence[Group], seed: int) -> Mix:
    """The logistic mix of both stages. A toxic text's label is true of its worst window, a clean text's of all."""
    parts = []
    for group in groups:
        toxic = np.array([e.toxic if e.natural else np.nan for e in group.examples])
        x = mix_matrix(group.first, group.reading.text)
        usable = (toxic[group.windows.row] == 0) & group.reading.asked
        score = x.sum(axis=1)
        for index in np.flatnonzero(toxic == 1).tolist():
            a, b = int(group.windows.bounds[index]), int(group.windows.bounds[index + 1])
            if b > a:
                worst = a + int(np.argmax(score[a:b]))
                usable[worst] = group.reading.asked[worst]
        label = np.nan_to_num(toxic)[group.windows.row].astype(np.int64)
        parts.append(_table(group, x, label, usable, group.windows.row, seed))
    table = _joined(parts)
    found = fit_logistic(*_train(table), 2)
    # The weighing of sources and classes serves the ranking; a probability must answer to the rows as they are.
    ranked = found.logits(table.x[~table.test])
    scaled = fit_logistic(ranked, table.y[~table.test], np.ones(len(ranked)), 2)
    slope = scaled.weight[0, 0] / scaled.scale[0]
    weight = slope * found.weight[:, 0] / found.scale
    shift = slope * (found.bias[0] - (found.mean * found.weight[:, 0] / found.scale).sum())
    bias = shift + scaled.bias[0] - slope * scaled.mean[0]
    return Mix(np.round(weight, 5), round(float(bias), 5))


def _table(
    group: Group, x: F64, y: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_], row: npt.NDArray[Any], seed: int
) -> Table:
    source = np.array([e.source for e in group.examples], dtype="U64")
    test = np.array([is_test(e.key, seed) for e in group.examples], bool)
    return Table(x[kept], y[kept], source[row[kept]], test[row[kept]])


def _joined(tables: Sequence[Table]) -> Table:
    return Table(*(np.concatenate([getattr(t, name) for t in tables]) for name in ("x", "y", "source", "test")))


def _train(table: Table) -> tuple[F64, npt.NDArray[np.int64], F64]:
    return table.x[~table.test], table.y[~table.test], table.train_weights()


def encoder_card(
    job: EncoderJob, stack: Stack, groups: Sequence[Group], low: float, curve: list[dict[str, float]]
) -> dict[str, Any]:
    """encoder.json: files, mix, budget, and AUROC on every source read by models that never saw it."""
    files = json.loads((Path(job.output) / "encoder.files.json").read_text(encoding="utf-8"))
    return {
        "version": "1",
        "files": files,
        "model": "encoder.onnx",
        "tokenizer": "encoder.tokenizer.json",
        "base": job.base,
        "mix": {"columns": list(MIXED), "weight": stack.mix.weight.tolist(), "bias": stack.mix.bias},
        "low": low,
        "budget": {"documents": job.budget, "sets": list(job.budget_sets), "step": job.budget_step, "curve": curve},
        "sets": [spec.model_dump(mode="json", exclude_defaults=True) for spec in job.sets],
        "training": job.training.model_dump(mode="json"),
        "seed": job.seed,
        "notes": list(job.notes),
        "unseen_sources": source_metrics(groups, stack.mix, low, job.seed),
    }


def source_metrics(groups: Sequence[Group], mix: Mix, low: float, seed: int) -> dict[str, Any]:
    """Per source of both labels: AUROC of the first stage, the encoder alone, and the cascade at two budgets."""
    found: dict[str, Any] = {}
    for group in groups:
        toxic = np.array([e.toxic if e.toxic == e.toxic else e.hate for e in group.examples])
        systems = {
            "first": group.first,
            "encoder": sigmoid(group.reading.text[:, 0]),
            "read_everything": window_probability(group, mix, 0.0),
            "cascade": window_probability(group, mix, low),
        }
        scores = {n: np.nan_to_num(row_top_mean(v, group.windows.bounds, TOP_SHARE)) for n, v in systems.items()}
        source = np.array([e.source for e in group.examples])
        for name in sorted({e.source for e in group.examples if e.natural and e.fold != FINAL}):
            chosen = (source == name) & ~np.isnan(toxic)
            if chosen.any() and 0 < toxic[chosen].mean() < 1 and not name.startswith(("thread/", "exchange/")):
                found[name] = {
                    n: with_interval(auroc, v[chosen], toxic[chosen], seed).plain() for n, v in scores.items()
                }
    return found


def context_card(job: EncoderJob, stack: Stack) -> dict[str, Any]:
    """context.json: three layers and what they do on held-out rows and on sources left out of the layers as well."""
    kind = stack.kind_table
    named = stack.kind.logits(kind.x[kind.test]).argmax(axis=1) == kind.y[kind.test]
    return {
        "version": "2",
        "files": {},
        "seed": job.seed,
        "abstain": list(ABSTAIN),
        "use": plain(stack.use, features.MENTION_NAMES),
        "kind": {**plain(stack.kind, features.MENTION_NAMES), "roles": list(MENTION_ROLES)},
        "document": plain(stack.document, features.DOCUMENT_NAMES),
        "sets": [spec.model_dump(mode="json", exclude_defaults=True) for spec in job.sets],
        "rows": {
            "mentions": len(stack.use_table.y), "documents": len(stack.document_table.y), "kinds": len(kind.y),
        },
        "metrics": {
            "use": layer_metrics(stack.use, stack.use_table),
            "kind_accuracy": rate(named).plain(),
            "document": layer_metrics(stack.document, stack.document_table),
        },
    }  # fmt: skip


def layer_metrics(model: Linear, table: Table) -> dict[str, Any]:
    """On the held-out fifth: area, calibration, rates by source; and with each source left out of the layer's fit."""
    x, y, source = table.x[table.test], table.y[table.test], table.source[table.test]
    p = sigmoid(model.logits(x)[:, 0])
    return {
        "auroc": with_interval(auroc, p, y.astype(np.float64)).plain(),
        "ece": round(expected_calibration_error(p, y.astype(np.float64)), 4),
        "natural": _trade(p, y, source),
        "left_out": left_out(table),
        "called_use": {
            f"{name}/{'use' if label else 'mention'}": rate(p[chosen] >= 0.5).plain()
            for name in sorted(set(source.tolist()))
            for label in (0, 1)
            for chosen in [(source == name) & (y == label)]
            if chosen.any()
        },
    }


def left_out(table: Table) -> dict[str, Any]:
    """Per natural source of both labels: area, recall at 12 % error and error at 90 % recall, by a layer without it."""
    found: dict[str, Any] = {}
    for name in sorted(set(table.source.tolist())):
        mine = table.source == name
        if name.startswith(("template/", "thread/", "exchange/")) or len(set(table.y[mine].tolist())) < 2:
            continue
        rest = table.without(name)
        p = sigmoid(fit_logistic(*_train(rest), 2).logits(table.x[mine])[:, 0])
        y = table.y[mine]
        clean, bad = np.sort(p[y == 0]), np.sort(p[y == 1])
        at_error = clean[min(int(np.ceil(0.88 * len(clean))), len(clean) - 1)]
        at_recall = bad[int(0.1 * len(bad))]
        found[name] = {
            "uses": len(bad),
            "mentions": len(clean),
            "auroc": with_interval(auroc, p, y.astype(np.float64)).plain(),
            "recall_at_12_percent_error": rate(bad > at_error).plain(),
            "error_at_90_percent_recall": rate(clean >= at_recall).plain(),
        }
    return found


def _trade(p: F64, y: npt.NDArray[np.int64], source: npt.NDArray[np.str_]) -> list[dict[str, float]]:
    """Recall and false alarms at several thresholds: natural rows, mean over the sources that hold both classes."""
    natural = ~np.char.startswith(source, "template/")
    both = [s for s in sorted(set(source[natural].tolist())) if len(set(y[source == s].tolist())) == 2]
    rows = []
    for threshold in THRESHOLDS[2:8]:
        called = p >= threshold
        recall = [float(called[(source == s) & (y == 1)].mean()) for s in both]
        wrong = [float(called[(source == s) & (y == 0)].mean()) for s in both]
        rows.append(
            {
                "threshold": threshold,
                "use_recall": round(float(np.mean(recall)), 3),
                "mention_called_use": round(float(np.mean(wrong)), 3),
            }
        )
    return rows


def _write(encoder: Mapping[str, Any], context: Mapping[str, Any], out: Path) -> None:
    from classifiers import cards

    for name, card, page in (("encoder", encoder, cards.encoder_card), ("context", context, cards.context_card)):
        (out / f"{name}.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (out / f"{name}.md").write_text(page(card), encoding="utf-8")
