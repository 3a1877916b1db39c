"""Texts → one number per text and system, for the comparisons of this folder. In: texts. Out: system name → scores.

The systems are the scorer of `classifiers/scoring.py`, whatever stages it has, and the baselines it must be ahead of:
word lists and the first stage alone. Only public doors are used, so a new stage behind the scorer needs no change here.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.base import WEIGHTS, load_card
from classifiers.calibration import Calibration
from classifiers.labelled import read_rows
from classifiers.scoring import Scorer, ScoringSettings
from classifiers.tokens import tokenize
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import SENTENCES, cut, row_top_mean
from curation.errors import ConfigError, Problem
from curation.filters.context import ContextSettings
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import Entry, Lexicon
from curation.lexicon.matcher import Matcher

F64 = npt.NDArray[np.float64]
REPO = Path(__file__).resolve().parent.parent
DATA = REPO.parent / "shared" / "data"
SPLIT_SEED = 17  # of `fit`, as in examples/fit_toxicity.yaml: which rows of a set in training are held out
DRAW_SEED = 71  # of subsamples; another one, because `fit` splits by the same hash of the same names
BATCH = 2000  # texts scored at once; results do not depend on it
FIRST_STAGES = ("fasttext", "other_language")  # values of toxicity.stage that no second stage gave
# What each column is called in tables.
TITLES = {
    "blocklist_any": "LDNOOBW any hit",
    "blocklist_hits": "LDNOOBW hits",
    "surge_severity": "surge severity, highest",
    "fasttext": "fastText alone",
    "sentence_max": "worst sentence (Dolma style)",
    "cascade": "cascade",
    "document_use": "context: document",
    "max_use": "context: mention",
    "curated": "curated verdict",
}


class Systems:
    """Every system of the comparison, loaded once."""

    def __init__(self, settings: ScoringSettings, data: Path) -> None:
        """`data`: the folder of labelled sets, for the surge list. Raises ConfigError: a model or list is missing."""
        self.scorer = Scorer(settings, {"blocklist", "toxicity", "context"})
        self.settings = settings
        shipped = settings.toxicity_model == "shipped"
        card = WEIGHTS / "toxicity.json" if shipped else Path(settings.toxicity_model)
        self.toxicity_card = load_card(card)
        self.first = FastTextToxicity(card.with_suffix(".ftz"), Calibration.load(card, "calibration"))
        self._surge, self._severity = surge_list(data)
        self.failed: dict[str, int] = {}  # reason → texts whose score failed; their scores are NaN

    def score(self, texts: Sequence[str]) -> dict[str, F64]:
        """One column a system, shape (len(texts),); NaN where the scorer says that a stage failed."""
        parts = [self._score(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _score(self, texts: Sequence[str]) -> dict[str, F64]:
        columns = self.scorer.score(pa.array(texts, pa.string()))
        for reason in columns["scoring.failed"].drop_null().to_pylist():
            self.failed[reason] = self.failed.get(reason, 0) + 1
        hits = _numbers(columns["blocklist.hits"])
        max_use, document_use = _numbers(columns["context.max_use"]), _numbers(columns["context.document_use"])
        stage = np.array(columns["toxicity.stage"].fill_null("fasttext").to_pylist())
        return {
            "blocklist_any": (hits > 0).astype(np.float64),
            "blocklist_hits": hits,
            **self._baselines(texts),
            "cascade": _numbers(columns["toxicity.toxicity"]),
            "document_use": document_use,
            "max_use": max_use,
            "curated": curated_score(max_use, document_use),
            "second_stage": (~np.isin(stage, FIRST_STAGES)).astype(np.float64),
        }

    def _baselines(self, texts: Sequence[str]) -> dict[str, F64]:
        batch = TextBatch.of(list(texts))
        tokens = tokenize(batch)
        windows, sentences = cut(tokens, self.settings.windows), cut(tokens, SENTENCES)
        severity = np.zeros(len(texts))
        found = self._surge.find(batch)
        np.maximum.at(severity, found.row, self._severity[found.entry])
        document = row_top_mean(self.first.probabilities(tokens, windows), windows.bounds, self.settings.top_share)
        # A share so small that one sentence is taken: the worst one.
        worst = row_top_mean(self.first.probabilities(tokens, sentences), sentences.bounds, 1e-9)
        return {
            "surge_severity": severity,
            "fasttext": np.nan_to_num(document),
            "sentence_max": np.nan_to_num(worst),
        }


def curated_score(max_use: F64, document_use: F64) -> F64:
    """The margin by which the `context` filter drops a text under its default bounds: dropped where it is 0 or more."""
    bounds = ContextSettings()
    return np.maximum(max_use - bounds.max_use, document_use - bounds.max_document_use)


def surge_list(data: Path) -> tuple[Matcher, F64]:
    """A matcher over surge-ai/profanity (MIT) and the severity of each of its entries, 1 to 3 as its raters saw it."""
    path = data / "lexicons" / "surge_profanity.jsonl.zst"
    rows = list(read_rows(path))
    entries = tuple(Entry(term=row["term"], category="blocklist") for row in rows)
    severity = np.array([float(row["severity"]) for row in rows])
    return Matcher(Lexicon("surge", "1", "MIT", entries, "", path), fold_disguises=False), severity


def seen_sets(settings: ScoringSettings) -> frozenset[str]:
    """Names of the sets that a model card in use, or any shipped one, lists as training data (`sets`, by path)."""
    cards = sorted(WEIGHTS.glob("*.json"))
    cards += [Path(name) for name in (settings.toxicity_model, settings.context_model) if name != "shipped"]
    names: set[str] = set()
    for path in cards:
        for spec in json.loads(path.read_text(encoding="utf-8")).get("sets", []):
            names.add(Path(spec["path"] if isinstance(spec, dict) else spec).name.split(".")[0])
    return frozenset(names)


def _numbers(column: pa.Array) -> F64:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))


class Added:
    """Scores made elsewhere, by set and id: out-of-fold scores of models fitted without the set, or another tool's."""

    def __init__(self, listed: Sequence[str]) -> None:
        """`listed`: NAME=FILE.jsonl each, lines {"id", "score"} and, where ids clash between sets, "source".

        Raises:
            ConfigError: no `=`, no such file, or a line without `id` and a finite `score`.
        """
        self._scores = dict(_load_scores(one) for one in listed)
        self.names = tuple(self._scores)

    def columns(self, source: str, ids: Sequence[object]) -> dict[str, F64]:
        """The scores of rows `ids` of `source`, NaN where there is none."""
        return {
            name: np.array([mine.get(f"{source}/{i}", mine.get(str(i), math.nan)) for i in ids], np.float64)
            for name, mine in self._scores.items()
        }


def _load_scores(argument: str) -> tuple[str, dict[str, float]]:
    name, _, path = argument.partition("=")
    if not path:
        raise ConfigError(Problem("bad-scores", f"`{argument}` is not NAME=FILE.jsonl", "--scores"))
    scores = {}
    for number, row in enumerate(read_rows(Path(path)), start=1):
        if "id" not in row or not isinstance(row.get("score"), int | float) or not math.isfinite(row["score"]):
            raise ConfigError(Problem("bad-scores", "no `id` with a finite `score`", f"{path}:{number}"))
        scores[f"{row['source']}/{row['id']}" if "source" in row else str(row["id"])] = float(row["score"])
    return name, scores


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that all comparisons share."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled sets")
    parser.add_argument("--scoring", default="{}", help="ScoringSettings as JSON, e.g. another toxicity_model")
    parser.add_argument("--scores", action="append", default=[], metavar="NAME=FILE", help="a column made elsewhere")
    parser.add_argument("--json", type=Path, help="write every number here")
    return parser


def systems_of(options: argparse.Namespace) -> Systems:
    return Systems(ScoringSettings.model_validate_json(options.scoring), options.data)


def finish(options: argparse.Namespace, systems: Systems, results: Mapping[str, object]) -> None:
    """Write the JSON file, with the models in use; say on stderr what failed."""
    for reason, count in sorted(systems.failed.items()):
        print(f"{count} texts without a score: {reason}", file=sys.stderr)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        whole = {"resources": systems.scorer.resources(), "failed": systems.failed, **results}
        options.json.write_text(json.dumps(whole, indent=1, default=_plain) + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)
