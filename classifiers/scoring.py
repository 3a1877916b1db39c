"""Texts → every score column of the rulesets in play: the one door through which passes and `score` use classifiers.

In: an Arrow array of texts. Out: column name → array, rows as given. Null means "not measured", and then
`scoring.failed` says why; a document without words scores 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from classifiers.base import WEIGHTS, load_card, resource, sha256_of
from classifiers.calibration import Calibration
from classifiers.cascade import STAGES, Cascade, Scored, run_cascade
from classifiers.context import ContextModel, ContextReader, Mentions, demeaning_entries
from classifiers.document_gate import DocumentGate, gate_features
from classifiers.language_gate import LanguageGate
from classifiers.spans import mention_lists, span_lists
from classifiers.tokens import Tokens, tokenize
from classifiers.toxicity_detoxify import Detoxify, missing
from classifiers.toxicity_fasttext import FastTextToxicity
from classifiers.windows import SENTENCES, Windows, WindowSettings, cut, row_top_mean
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
    encoder_model: str = Field(default="shipped", description="`shipped`, or the .json card of a fitted encoder")
    gate_model: str = Field(
        default="none",
        description="`shipped` or a fitted gate's .json card, which says what is read; `none`: a bound",
    )
    second_stage_from: float | None = Field(
        default=None, ge=0, le=1, description="first-stage probability from which the encoder reads; None: the card's"
    )
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
            self._load_first_stage()
        if self.filters & {"toxicity", "context"}:
            self._load_second_stage()
        if "context" in self.filters:
            self._context = ContextModel(_card_path(settings.context_model, "context.json"), self._reader)
            self._resources.append(self._context.resource)

    def _load_first_stage(self) -> None:
        self._gate = LanguageGate(self.settings.languages)
        self._resources.append(
            {"name": self._gate.model.name, "version": "1", "sha256": self._gate.model.sha256, "kind": "model"}
        )
        path = _card_path(self.settings.toxicity_model, "toxicity.json")
        card = load_card(path)
        self._toxicity = FastTextToxicity(path.with_suffix(".ftz"), Calibration.load(path, "calibration"))
        self._resources.append(resource("toxicity", card, path))

    def _load_second_stage(self) -> None:
        lexicon = load_lexicon(self.settings.lexicon)
        self._terms = Matcher(lexicon)
        self._demeaning = demeaning_entries(lexicon.entries, frozenset(self.settings.demeaning))
        self._reader = ContextReader(lexicon, frozenset(self.settings.demeaning))
        self._resources += [lexicon.resource(), self._reader.cue_resource]
        detoxify: Detoxify | None = None
        if "toxicity" in self.filters and self.settings.detoxify_model is not None:
            reason = missing()
            if reason is not None:
                self._notes.append(reason)
            else:
                detoxify = Detoxify(self.settings.detoxify_model)
                self._resources.append(detoxify.resource())
        encoder = _card_path(self.settings.encoder_model, "encoder.json")
        cascade, row = Cascade.load(self._toxicity, encoder, self.settings.second_stage_from, detoxify)
        self._resources.append(row)
        self._cascade = replace(cascade, gate=self._document_gate(cascade.low))

    def _document_gate(self, low: float) -> DocumentGate | None:
        if self.settings.gate_model == "none" or self.settings.second_stage_from is not None:
            return None
        path = _card_path(self.settings.gate_model, "gate.json")
        found = DocumentGate.load(path, sha256_of(self._toxicity.path), self._reader)
        if found is None:
            self._notes.append(
                f"the document gate was fitted over another first stage; instead of it windows from {low} on are read"
                " (`headwater fit` makes a gate for yours)"
            )
            return None
        gate, row = found
        self._resources.append(row)
        return gate

    def resources(self) -> list[dict[str, str]]:
        """[{name, version, sha256, kind}] of every model and list in use, for the manifest."""
        return sorted(self._resources, key=lambda row: (row["kind"], row["name"]))

    def notes(self) -> list[str]:
        """What a reader of the run must know about the models, one sentence each."""
        return list(self._notes)

    def gate_features(self, texts: pa.Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """What the document gate sees of every text, and which texts hold a demeaning term, so that they are read."""
        batch = TextBatch(texts)
        tokens = tokenize(batch)
        windows = cut(tokens, self.settings.windows)
        hits = self._terms.find(batch)
        first = self._toxicity.probabilities(tokens, windows)
        held = np.zeros(len(batch), bool)
        held[hits.row[self._demeaning[hits.entry] & ~hits.guarded]] = True
        return gate_features(batch, tokens, windows, first, hits, self._reader), held

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
            if self.filters & {"toxicity", "context"}:
                hits = self._terms.find(batch)
                scored = run_cascade(
                    batch, tokens, windows, self._cascade, hits, self._demeaning[hits.entry] & ~hits.guarded
                )
                failed |= scored.failed
            if "toxicity" in self.filters:
                columns |= self._score_toxicity(tokens, windows, scored, len(batch))
            if "sentence" in self.filters:
                columns |= self._score_sentences(tokens, len(batch))
            if "context" in self.filters:
                columns |= self._score_context(batch, tokens, windows, scored, hits)
            columns = self._gate.apply(columns, texts)
        if failed:  # what a stage could not read has no score, however much of it the others read
            gone = pa.array([row in failed for row in range(len(batch))])
            columns = {name: _without(column, gone) if _staged(name) else column for name, column in columns.items()}
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
        shown = np.flatnonzero(scored.probability >= self.settings.window_threshold)
        stage = np.zeros(size, np.int64)
        np.maximum.at(stage, windows.row, scored.stage.astype(np.int64))
        spans = _window_spans(tokens, windows, shown, "toxic", size)
        return {
            "toxicity.toxicity": pa.array(value.astype(np.float32)),
            "toxicity.spans": spans,
            "toxicity.stage": pa.array(np.array(STAGES)[stage]),
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
        mentions = self._context.judge(batch, tokens, windows, scored.probability, scored.reading, hits)
        used = np.flatnonzero(mentions.is_use & mentions.demeaning)
        hateful = np.flatnonzero(mentions.hateful)
        return {
            "context.max_use": pa.array(mentions.max_use.astype(np.float32)),
            "context.document_use": pa.array(mentions.document_use.astype(np.float32)),
            "context.hateful_spans": _window_spans(tokens, windows, hateful, "hateful", len(batch)),
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


def _window_spans(tokens: Tokens, windows: Windows, chosen: npt.NDArray[np.int64], label: str, size: int) -> pa.Array:
    start = tokens.start[windows.first[chosen]]
    end = tokens.end[windows.last[chosen] - 1]
    return span_lists(windows.row[chosen], start, end, pa.repeat(label, len(chosen)), size)


def _staged(name: str) -> bool:
    return name.startswith(("toxicity.", "context."))


def _without(column: pa.Array, gone: pa.Array) -> pa.Array:
    """`column` with null where `gone`."""
    index = pa.array(np.arange(len(column)), mask=gone.to_numpy(zero_copy_only=False))
    return column.take(index)


def _mention_column(mentions: Mentions, size: int) -> pa.Array:
    return mention_lists(mentions.hits.row, mentions.columns, size)
