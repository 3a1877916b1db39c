"""Texts → every score column of the rulesets in play: the one door through which passes and `score` use classifiers.

In: an Arrow array of texts. Out: column name → array, rows as given. Null means "not measured", and then
`scoring.failed` says why; a document without words scores 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from classifiers.base import WEIGHTS, load_card, resource
from classifiers.calibration import Calibration
from classifiers.cascade import Scored, run_cascade
from classifiers.context import ContextModel, Mentions
from classifiers.language_gate import LanguageGate
from classifiers.spans import mention_lists, span_lists
from classifiers.tokens import Tokens, tokenize
from classifiers.toxicity_detoxify import Detoxify, missing
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import SENTENCES, Windows, WindowSettings, cut, row_top_mean, token_at
from curation.errors import ConfigError, Problem
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Hits, Matcher
from curation.settings import Settings

FILTERS_SCORED = frozenset({"blocklist", "toxicity", "sentence", "context"})


class ScoringSettings(Settings):
    """Which models and lists score, and what is measured. Thresholds of verdicts stand in rulesets, not here."""

    toxicity_model: str = Field(default="shipped", description="`shipped`, or the .json card beside a fitted model")
    context_model: str = Field(default="shipped", description="`shipped`, or the .json card of a fitted model")
    detoxify_model: str | None = Field(default=None, description="folder of a local Detoxify snapshot; never fetched")
    band: tuple[float, float] | None = Field(default=None, description="unsure first-stage range; None: the card's")
    lexicon: str = Field(default="english", description="shipped name or file (.tsv, .yaml, .jsonl)")
    blocklist: str = Field(default="ldnoobw", description="the list of the any-hit baseline")
    blocklist_languages: tuple[str, ...] = ("en",)
    languages: tuple[str, ...] = Field(
        default=("en",), description="what the models and the lexicon can read; others are not judged"
    )
    windows: WindowSettings = WindowSettings()
    # A document's toxicity is the mean of its worst fifth of windows, at least one: one bad comment in a long thread
    # raises it a little, a fifth of bad comments fully.
    top_share: float = Field(default=0.2, gt=0, le=1)
    window_threshold: float = Field(default=0.5, ge=0, le=1, description="windows shown as toxic spans")
    # Dolma v1.6 deletes sentences whose Jigsaw fastText score is at least .4 (mixing/cc-head.yaml).
    sentence_threshold: float = Field(default=0.4, ge=0, le=1)
    demeaning: tuple[str, ...] = Field(
        default=("slur", "hate_ideology"), description="lexicon categories whose use counts for context.max_use"
    )


class Scorer:
    """The loaded models of one job, for the filters that its rulesets use."""

    def __init__(self, settings: ScoringSettings, filters: Iterable[str] = FILTERS_SCORED) -> None:
        """Loads only what `filters` need.

        Raises:
            ConfigError: a filter that nothing here scores; a model or list that is missing or not what it claims.
        """
        self.settings = settings
        self.filters = frozenset(filters)
        unknown = self.filters - FILTERS_SCORED
        if unknown:
            raise ConfigError(Problem("unscored-filter", f"no classifier scores {', '.join(sorted(unknown))}"))
        self._resources: list[dict[str, str]] = []
        self._notes: list[str] = []
        if "blocklist" in self.filters:
            listed = load_lexicon(settings.blocklist)
            self._blocklist = Matcher(listed.only(settings.blocklist_languages), fold_disguises=False)
            self._resources.append(listed.resource())
        if self.filters & {"toxicity", "sentence", "context"}:
            self._load_toxicity()
        if self.filters & {"toxicity", "context"}:
            lexicon = load_lexicon(settings.lexicon)
            self._terms = Matcher(lexicon)
            self._resources.append(lexicon.resource())
        if "context" in self.filters:
            path = _card_path(settings.context_model, "context.json")
            self._context = ContextModel(path, self._terms.lexicon, frozenset(settings.demeaning))
            self._resources += self._context.resources()

    def _load_toxicity(self) -> None:
        self._gate = LanguageGate(self.settings.languages)
        self._resources.append(
            {"name": self._gate.model.name, "version": "1", "sha256": self._gate.model.sha256, "kind": "model"}
        )
        path = _card_path(self.settings.toxicity_model, "toxicity.json")
        card = load_card(path)
        self._toxicity = FastTextToxicity(path.with_suffix(".ftz"), Calibration.load(path, "calibration"))
        self._band = self.settings.band or (float(card["band"][0]), float(card["band"][1]))
        self._resources.append(resource("toxicity", card, path))
        self._second: Detoxify | None = None
        if "toxicity" in self.filters:
            reason = missing(self.settings.detoxify_model)
            if reason is not None:
                self._notes.append(reason)
            elif self.settings.detoxify_model is not None:
                self._second = Detoxify(self.settings.detoxify_model)
                self._resources.append(self._second.resource())

    def resources(self) -> list[dict[str, str]]:
        """[{name, version, sha256, kind}] of every model and list in use, for the manifest."""
        return sorted(self._resources, key=lambda row: (row["kind"], row["name"]))

    def notes(self) -> list[str]:
        """What a reader of the run must know about the models, one sentence each."""
        return list(self._notes)

    def score(self, texts: pa.Array) -> dict[str, pa.Array]:
        """The columns of every filter asked for, and `scoring.failed` (null when all went well)."""
        batch = TextBatch(texts)
        columns: dict[str, pa.Array] = {}
        failed: dict[int, str] = {}
        if "blocklist" in self.filters:
            columns |= self._score_blocklist(batch)
        if self.filters & {"toxicity", "sentence", "context"}:
            tokens = tokenize(batch)
            windows = cut(tokens, self.settings.windows)
            hits = self._terms.find(batch) if self.filters & {"toxicity", "context"} else _no_hits()
            scored = run_cascade(
                texts, tokens, windows, self._toxicity, self._second, self._band, _holding(hits, tokens, windows)
            )
            failed |= scored.failed
            if "toxicity" in self.filters:
                columns |= self._score_toxicity(tokens, windows, scored, len(batch))
            if "sentence" in self.filters:
                columns |= self._score_sentences(tokens, len(batch))
            if "context" in self.filters:
                columns |= self._score_context(batch, tokens, windows, scored, hits)
            columns = self._gate.apply(columns, texts)
        reasons = [failed.get(row) for row in range(len(batch))] if failed else None
        columns["scoring.failed"] = pa.array(reasons, pa.string()) if reasons else pa.nulls(len(batch), pa.string())
        return columns

    def _score_blocklist(self, batch: TextBatch) -> dict[str, pa.Array]:
        hits = self._blocklist.find(batch)
        count = np.bincount(hits.row, minlength=len(batch)).astype(np.int64)
        labels = pa.repeat("blocklist", len(hits))
        return {
            "blocklist.hits": pa.array(count),
            "blocklist.spans": span_lists(hits.row, hits.start, hits.end, labels, len(batch)),
        }

    def _score_toxicity(self, tokens: Tokens, windows: Windows, scored: Scored, size: int) -> dict[str, pa.Array]:
        value = np.nan_to_num(row_top_mean(scored.probability, windows.bounds, self.settings.top_share))
        gone = np.zeros(size, bool)
        gone[list(scored.failed)] = True
        shown = np.flatnonzero((scored.probability >= self.settings.window_threshold) & ~gone[windows.row])
        second = np.zeros(size, bool)
        second[windows.row[scored.second]] = True
        spans = _window_spans(tokens, windows, shown, "toxic", size)
        return {
            "toxicity.toxicity": pa.array(value.astype(np.float32), mask=gone),
            "toxicity.spans": _with_nulls(spans, gone),
            "toxicity.stage": pa.array(np.where(second, "detoxify", "fasttext"), mask=gone),
        }

    def _score_sentences(self, tokens: Tokens, size: int) -> dict[str, pa.Array]:
        sentences = cut(tokens, SENTENCES)
        probability = self._toxicity.probabilities(tokens, sentences)
        toxic = np.flatnonzero(probability >= self.settings.sentence_threshold)
        count = np.bincount(sentences.row[toxic], minlength=size).astype(np.int64)
        return {
            "sentence.toxic_sentences": pa.array(count),
            "sentence.spans": _window_spans(tokens, sentences, toxic, "toxic_sentence", size),
        }

    def _score_context(
        self, batch: TextBatch, tokens: Tokens, windows: Windows, scored: Scored, hits: Hits
    ) -> dict[str, pa.Array]:
        mentions = self._context.judge(batch, tokens, windows, scored.probability, hits)
        used = np.flatnonzero(mentions.is_use & mentions.demeaning)
        return {
            "context.max_use": pa.array(mentions.max_use.astype(np.float32)),
            "context.document_use": pa.array(mentions.document_use.astype(np.float32)),
            "context.mentions": _mention_column(mentions, len(batch)),
            "context.use_spans": span_lists(
                mentions.hits.row[used],
                mentions.hits.start[used],
                mentions.hits.end[used],
                mentions.columns["category"].take(pa.array(used)),
                len(batch),
            ),
        }


def _card_path(name: str, shipped: str) -> Path:
    return WEIGHTS / shipped if name == "shipped" else Path(name)


def _no_hits() -> Hits:
    empty = np.zeros(0, np.int32)
    return Hits(empty, empty, empty, empty, empty.astype(bool), empty.astype(bool))


def _holding(hits: Hits, tokens: Tokens, windows: Windows) -> npt.NDArray[np.bool_]:
    """Which windows hold a lexicon term."""
    holds = np.zeros(len(windows), bool)
    if len(hits) and len(windows):
        token = token_at(tokens, hits.row, hits.start)
        at = np.searchsorted(windows.first, token, side="right") - 1
        holds[at[(at >= 0) & ~hits.guarded]] = True
    return holds


def _window_spans(tokens: Tokens, windows: Windows, chosen: npt.NDArray[np.int64], label: str, size: int) -> pa.Array:
    start = tokens.start[windows.first[chosen]]
    end = tokens.end[windows.last[chosen] - 1]
    return span_lists(windows.row[chosen], start, end, pa.repeat(label, len(chosen)), size)


def _with_nulls(lists: pa.Array, gone: npt.NDArray[np.bool_]) -> pa.Array:
    if not gone.any():
        return lists
    index = pa.array(np.arange(len(lists)), mask=gone)
    return lists.take(index)


def _mention_column(mentions: Mentions, size: int) -> pa.Array:
    return mention_lists(mentions.hits.row, mentions.columns, size)
