"""The context model from labelled sets and generated examples: three linear models, one JSON card.

Two fifths of the rows train a toxicity model of their own (the guide), the others the context model, which so sees
scores as uncertain as in the wild. The shipped toxicity model, trained on more, takes the guide's place afterwards.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers import context_features as features
from classifiers.calibration import expected_calibration_error
from classifiers.context import MENTION_ROLES, ContextReader, Linear, document_matrix, in_context, read_cues, sigmoid
from classifiers.context_examples import (
    Example,
    Pool,
    Reply,
    homonym_examples,
    profane_examples,
    template_examples,
    thread_examples,
)
from classifiers.evaluate import auroc, rate, with_interval
from classifiers.fit import Corpus, FitJob, Mask, calibrate, load_corpus, train_model
from classifiers.labelled import dotted, read_rows
from classifiers.tokens import tokenize
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import cut
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.seeding import unit_hash

F64 = npt.NDArray[np.float64]
DEMEANING = frozenset({"slur", "hate_ideology"})
ABSTAIN = (0.4, 0.6)  # between: `uncertain`; the context filter of the rulesets acts from 0.6 as well
PENALTY = 1.0  # L2 on standardised features: a unit normal prior on every weight
SOURCE_CAP = 800.0  # effective rows of one source and label, so that no source rules by its size
MAX_RATIO = 2.0  # between the effective rows of two classes of one source
GUIDE_SHARE = 0.4
THREADS = 1500


@dataclass(frozen=True)
class Table:
    """Features with labels, weights and splits."""

    x: F64
    y: npt.NDArray[np.int64]
    source: npt.NDArray[np.str_]
    test: npt.NDArray[np.bool_]

    def weights(self) -> F64:
        """One weight a row: classes weigh the same within a source, and no source weighs more than SOURCE_CAP a class.

        Otherwise the model learns that a term in tweets is use and a term elsewhere is not.
        """
        count = Counter(zip(self.source.tolist(), self.y.tolist(), strict=True))
        smaller = {s: min(n for (other, _), n in count.items() if other == s) for s in set(self.source.tolist())}
        total = {key: min(SOURCE_CAP, n, MAX_RATIO * smaller[key[0]]) for key, n in count.items()}
        return np.array([total[key] / count[key] for key in zip(self.source.tolist(), self.y.tolist(), strict=True)])


def fit_logistic(x: F64, y: npt.NDArray[np.int64], weight: F64, classes: int) -> Linear:
    """Multinomial (classes > 2) or binary logistic regression with an L2 penalty, by L-BFGS from zero."""
    from scipy.optimize import minimize

    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-6] = 1.0
    z = (x - mean) / scale
    outputs = 1 if classes == 2 else classes
    target = (y[:, None] == (1 if outputs == 1 else np.arange(classes)[None, :])).astype(np.float64)

    def loss(flat: F64) -> tuple[float, F64]:
        w, b = flat[:-outputs].reshape(-1, outputs), flat[-outputs:]
        logits = z @ w + b
        if outputs == 1:
            p = sigmoid(logits)
            value = -(np.log(np.where(target > 0, p, 1 - p) + 1e-12) * weight[:, None]).sum()
        else:
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            value = -(np.log((p * target).sum(axis=1) + 1e-12) * weight).sum()
        error = (p - target) * weight[:, None]
        gradient = np.r_[(z.T @ error + PENALTY * w).ravel(), error.sum(axis=0)]
        return float(value + 0.5 * PENALTY * (w**2).sum()), gradient

    found = minimize(loss, np.zeros((x.shape[1] + 1) * outputs), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return Linear(mean, scale, found.x[:-outputs].reshape(-1, outputs), found.x[-outputs:])


def guides(source: str, group: str, seed: int) -> bool:
    """Whether a row trains the guide model, the toxicity model of this fit; the others train the context model.

    The context model must see toxicity scores as uncertain as in the wild, so never of rows their model was trained on.
    """
    return unit_hash(f"{source}/{group}", seed + 2) < GUIDE_SHARE


def collect_examples(job: FitJob, corpus: Corpus, guide: Mask) -> list[Example]:
    """Natural rows, threads made of them, and templates; every one with the split it must stay in."""
    natural = [
        Example(row.text, row.toxic, "use" if row.toxic else "not_use", row.source, f"{row.source}/{row.group}")
        for row, taken in zip(corpus.rows, guide, strict=True)
        if not taken
    ]
    examples = list(natural)
    replies = _replies(job)
    for name in ("train", "test"):
        pools: dict[str, tuple[list[str], list[str]]] = {}
        for example in natural:
            if is_test(example.key, job.seed) == (name == "test"):
                pools.setdefault(example.source, ([], []))[not example.hateful].append(example.text)
        drawn = [Pool(source, *pools[source]) for source in sorted(pools)]
        answers = [r for r in replies if is_test(r.key, job.seed) == (name == "test")]
        count = THREADS if name == "train" else THREADS // 4
        examples += list(thread_examples(drawn, answers, name, job.seed, count))
    counter = [
        Example(r.reply, False, "counter_speech", r.source, r.key) for r in replies if r.label == "counterspeech"
    ]
    entries = load_lexicon("english").entries
    return [
        *examples,
        *counter,
        *template_examples(entries, job.seed),
        *homonym_examples(entries, job.seed),
        *profane_examples(job.seed),
    ]


def is_test(key: str, seed: int) -> bool:
    """The held-out fifth of the context model's own rows. Threads name their split in the key."""
    if key.removeprefix("train").removeprefix("test").isdecimal():
        return key.startswith("test")
    return unit_hash(key, seed + 1) < 0.2


def _replies(job: FitJob) -> list[Reply]:
    """Replies with the post they answer, from sets that have a `context`, outside the guide model's rows."""
    found = []
    for spec in job.sets:
        for raw in read_rows(Path(job.data) / spec.path):
            post = raw.get("context")
            if not isinstance(post, str) or not post.strip():
                break
            label = str(dotted(raw, spec.field))
            if label in {"hate", "counterspeech"} and not guides(spec.name, str(raw["id"]), job.seed):
                found.append(Reply(post.strip(), raw["text"].strip(), label, spec.name, f"{spec.name}/{raw['id']}"))
    return found


def guide_model(job: FitJob, corpus: Corpus, guide: Mask) -> FastTextToxicity:
    """A toxicity model of the guide rows alone, calibrated on a tenth of them."""
    tenth = np.array([unit_hash(f"{row.source}/{row.group}", job.seed + 3) < 0.1 for row in corpus.rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guide.ftz"
        train_model(corpus, job, guide & ~tenth, path)
        calibration, _, _ = calibrate(corpus, path, guide & tenth)
        return FastTextToxicity(path, calibration)


def measure(
    examples: Sequence[Example], job: FitJob, toxicity: FastTextToxicity
) -> tuple[ContextReader, dict[str, Any]]:
    """Everything the reader sees in the examples: the mention matrix and what the document matrix needs."""
    lexicon = load_lexicon("english")
    reader = ContextReader(lexicon, DEMEANING)
    batch = TextBatch.of([example.text for example in examples])
    tokens = tokenize(batch)
    windows = cut(tokens, job.windows)
    probability = toxicity.probabilities(tokens, windows)
    hits = Matcher(lexicon).find(batch)
    cues, rates, top = read_cues(reader, batch, tokens, windows, probability, hits)
    matrix = reader.mention_matrix(batch, tokens, windows, probability, hits, cues, rates)
    seen = {
        "tokens": tokens, "windows": windows, "toxicity": probability, "cues": cues, "rates": rates, "top": top,
        "hits": hits,
    }  # fmt: skip
    return reader, {"matrix": matrix, "seen": seen}


def fit_context(job: FitJob) -> dict[str, Any]:
    """Fit, measure on the held-out fifth, write context.json and context.md into `job.output`. Returns the card."""
    corpus = load_corpus(job, job.sets)
    guide = np.array([guides(row.source, row.group, job.seed) for row in corpus.rows])
    examples = collect_examples(job, corpus, guide)
    reader, found = measure(examples, job, guide_model(job, corpus, guide))
    hits, matrix = found["seen"]["hits"], found["matrix"]
    held = np.array([is_test(example.key, job.seed) for example in examples])
    source = np.array([example.source for example in examples])
    roles = np.array([example.role or "" for example in examples])[hits.row]
    labelled = (roles != "") & ~hits.guarded & _attackable(reader, hits)
    use_table = Table(
        matrix[labelled],
        (roles[labelled] == "use").astype(np.int64),
        source[hits.row][labelled],
        held[hits.row][labelled],
    )
    use = fit_logistic(use_table.x[~use_table.test], use_table.y[~use_table.test], _train_weights(use_table), 2)
    known = labelled & np.isin(roles, MENTION_ROLES)
    kinds = np.array([MENTION_ROLES.index(role) for role in roles[known]], np.int64)
    kind_table = Table(matrix[known], kinds, source[hits.row][known], held[hits.row][known])
    kind = fit_logistic(
        kind_table.x[~kind_table.test], kind_table.y[~kind_table.test], _train_weights(kind_table), len(MENTION_ROLES)
    )
    p_use = np.where(hits.guarded, 0.0, sigmoid(use.logits(matrix)[:, 0]))
    seen = found["seen"]
    read, top = in_context(
        seen["tokens"], seen["windows"], seen["toxicity"], hits, p_use, reader.category_demeans(hits)
    )
    documents = document_matrix(
        **{**seen, "toxicity": read, "top": top},
        use=p_use,
        demeaning=reader.is_demeaning(hits),
        term_rates=reader.term_rates(seen["tokens"], hits),
    )
    hateful = np.array([example.hateful for example in examples], np.int64)
    document_table = Table(documents, hateful, source, held)
    document = fit_logistic(documents[~held], hateful[~held], _train_weights(document_table), 2)
    card = {
        "version": "1",
        "files": {},
        "seed": job.seed,
        "abstain": list(ABSTAIN),
        "use": _plain(use, features.MENTION_NAMES),
        "kind": {**_plain(kind, features.MENTION_NAMES), "roles": list(MENTION_ROLES)},
        "document": _plain(document, features.DOCUMENT_NAMES),
        "sets": [spec.model_dump(mode="json", exclude_defaults=True) for spec in job.sets],
        "rows": {"mentions": len(use_table.y), "documents": len(hateful), "kinds": len(kinds)},
        "metrics": {
            "use": _binary_metrics(use, use_table),
            "kind_accuracy": _accuracy(kind, kind_table),
            "document": _binary_metrics(document, document_table),
        },
    }
    _write(card, Path(job.output))
    return card


def _write(card: dict[str, Any], out: Path) -> None:
    from classifiers.cards import context_card

    out.mkdir(parents=True, exist_ok=True)
    (out / "context.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (out / "context.md").write_text(context_card(card), encoding="utf-8")


def _accuracy(model: Linear, table: Table) -> dict[str, float]:
    """Share of held-out rows whose class the model names."""
    return rate(model.logits(table.x[table.test]).argmax(axis=1) == table.y[table.test]).plain()


def _attackable(reader: ContextReader, hits: Any) -> npt.NDArray[np.bool_]:
    """Mentions that a text's label speaks about: demeaning and insulting terms, not profanity or drugs."""
    kept = np.array([e.category in DEMEANING | {"insult", "violence"} and e.severity > 0 for e in reader.entries])
    return np.asarray(kept[hits.entry])


def _train_weights(table: Table) -> F64:
    return table.weights()[~table.test]


def _plain(model: Linear, names: tuple[str, ...]) -> dict[str, Any]:
    def rounded(values: F64) -> Any:
        return np.round(values, 5).tolist()

    return {
        "features": list(names),
        "mean": rounded(model.mean),
        "scale": rounded(model.scale),
        "weight": rounded(model.weight),
        "bias": rounded(model.bias),
    }


def _binary_metrics(model: Linear, table: Table) -> dict[str, Any]:
    """AUROC, ECE, and per source the share called use, on the held-out fifth."""
    x, y, source = table.x[table.test], table.y[table.test], table.source[table.test]
    p = sigmoid(model.logits(x)[:, 0])
    y_float = y.astype(np.float64)
    return {
        "auroc": with_interval(auroc, p, y_float).plain(),
        "ece": round(expected_calibration_error(p, y_float), 4),
        "natural": _trade(p, y, source),
        "called_use": {
            f"{name}/{'use' if label else 'mention'}": rate(p[chosen] >= 0.5).plain()
            for name in sorted(set(source.tolist()))
            for label in (0, 1)
            for chosen in [(source == name) & (y == label)]
            if chosen.any()
        },
    }


def _trade(p: F64, y: npt.NDArray[np.int64], source: npt.NDArray[np.str_]) -> list[dict[str, float]]:
    """Recall of use and share of mentions wrongly called use at several thresholds, natural rows only, per source mean.

    Averaged over sources that hold both classes, so that the largest does not speak for all.
    """
    natural = ~np.char.startswith(source, "template/")
    both = [s for s in sorted(set(source[natural].tolist())) if len(set(y[source == s].tolist())) == 2]
    rows = []
    for threshold in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
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
