"""Emotional range of generations: does alignment flatten what a model can sound like.

Emotions: GoEmotions' 28 labels (Demszky 2020, arXiv 2005.00547), by a linear classifier fitted from its training rows.
Valence is the probability of its positive labels minus that of its negative ones (the grouping of its table 1). With a
VAD lexicon (word, valence, arousal, dominance in [0, 1]; Mohammad 2018) arousal is measured too.
"""

from __future__ import annotations

import csv
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from alignment.metrics import text_richness as rich
from alignment.metrics.base import METRICS, Endpoint, ItemScore, MetricDefinition, Scores, data_file
from alignment.metrics.language_model import LanguageModel, Sampling
from alignment.metrics.linear_text import LinearText
from alignment.metrics.reading import rows_of
from classifiers.labelled import read_rows
from curation.errors import DataContractError, Problem
from curation.settings import Settings

HOW = "JSONL with `id` and `text` or `prompt`: what is to be continued"
VAD = "the NRC VAD lexicon, tab-separated: word, valence, arousal, dominance"
EMOTIONS = "GoEmotions as JSONL with `text`, `label`, `split`"
POSITIVE = frozenset(
    (
        *("admiration", "amusement", "approval", "caring", "desire", "excitement"),
        *("gratitude", "joy", "love", "optimism", "pride", "relief"),
    )
)
NEGATIVE = frozenset(
    (
        *("anger", "annoyance", "disappointment", "disapproval", "disgust", "embarrassment"),
        *("fear", "grief", "nervousness", "remorse", "sadness"),
    )
)
TAIL = 0.7  # arousal above it counts as intense (Mohammad 2018 places `furious` at .9, `calm` at .1)
ENDPOINTS = (
    Endpoint("emotion.entropy", "nats", True, "of a prompt's samples over 28 emotions"),
    Endpoint("emotion.valence_sd", "score", True, "standard deviation of valence over a prompt's samples"),
    Endpoint("emotion.negative", "share", None, "samples whose likeliest emotion is a negative one"),
    Endpoint("emotion.arousal_sd", "score", True, "standard deviation of arousal; needs `vad`"),
    Endpoint("emotion.intense", "share", None, "samples with a mean arousal above 0.7; needs `vad`"),
)


class EmotionSettings(Settings):
    """Prompts, the labelled emotions to fit from, an optional lexicon, and sampling."""

    data: str
    emotions: str
    vad: str | None = None  # tab-separated: word, valence, arousal, dominance
    limit: int | None = 200
    samples: int = 8
    new_tokens: int = 60
    temperature: float = 1.0
    top_p: float = 0.9
    seed: int = 0


def judged_by(settings: EmotionSettings) -> list[tuple[str, str]]:
    """The labelled emotions, and the lexicon where there is one."""
    return [(settings.emotions, EMOTIONS), *([(settings.vad, VAD)] if settings.vad else [])]


@lru_cache(maxsize=2)
def emotion_classifier(path: str) -> LinearText:
    """Fitted from rows of the training split with one label."""
    rows = [row for row in read_rows(data_file(path, "emotion", EMOTIONS)) if row.get("split", "train") == "train"]
    rows = [row for row in rows if "," not in str(row["label"])]
    return LinearText.fit([row["text"] for row in rows], [str(row["label"]) for row in rows])


def load_arousal(path: str) -> dict[str, float]:
    """Word → arousal in [0, 1].

    Raises:
        DataContractError: a line has fewer than three columns or no number.
    """
    found = {}
    with data_file(path, "emotion", VAD).open(encoding="utf-8", newline="") as stream:
        for number, cells in enumerate(csv.reader(stream, delimiter="\t"), 1):
            if number == 1 and cells[:1] in (["Word"], ["word"], ["term"]):
                continue
            try:
                found[cells[0].lower()] = float(cells[2])
            except (IndexError, ValueError):
                what = "not word, valence, arousal, dominance"
                raise DataContractError(Problem("bad-lexicon", what, f"{path}:{number}")) from None
    return found


def measure(model: LanguageModel, settings: EmotionSettings) -> Scores:
    """Item scores, one a prompt."""
    rows = rows_of(settings.data, "emotion", (), HOW, settings.limit)
    prompts = [str(row.get("prompt", row.get("text", ""))) for row in rows]
    how = Sampling(settings.new_tokens, settings.temperature, settings.top_p)
    generated = model.sample(prompts, settings.samples, settings.seed, how)
    arousal = load_arousal(settings.vad) if settings.vad else None
    names = [str(row.get("id", k)) for k, row in enumerate(rows)]
    return score_texts(names, generated, emotion_classifier(settings.emotions), arousal)


def score_texts(
    names: list[str], generated: list[list[str]], emotions: LinearText, arousal: dict[str, float] | None
) -> Scores:
    """The endpoints for texts that are there already: `generated[prompt][sample]`."""
    positive = np.array([name in POSITIVE for name in emotions.classes])
    negative = np.array([name in NEGATIVE for name in emotions.classes])
    scores: Scores = {}

    def add(what: str, name: str, value: float) -> None:
        scores.setdefault(f"emotion.{what}", []).append(ItemScore(name, value))

    for name, texts in zip(names, generated, strict=True):
        p = emotions.probabilities(texts)
        valence = p[:, positive].sum(1) - p[:, negative].sum(1)
        mean = p.mean(0)
        add("entropy", name, float(-(mean * np.log(np.clip(mean, 1e-12, 1))).sum()))
        add("valence_sd", name, float(valence.std()))
        add("negative", name, float(negative[p.argmax(1)].mean()))
        if arousal is not None:
            known = _arousal(texts, arousal)
            add("arousal_sd", name, float(known.std()) if len(known) else 0.0)
            add("intense", name, float((known > TAIL).mean()) if len(known) else 0.0)
    return scores


def _arousal(texts: list[str], lexicon: dict[str, float]) -> npt.NDArray[np.float64]:
    """Mean arousal of each text that has a word of the lexicon."""
    found = [[lexicon[word] for word in rich.words(text) if word in lexicon] for text in texts]
    return np.array([np.mean(values) for values in found if values])


METRICS.add(
    "emotion",
    MetricDefinition(
        "emotion",
        "how wide a range generations have",
        ENDPOINTS,
        EmotionSettings,
        measure,
        {"data": HOW},
        generates=True,
        more_files=judged_by,
    ),
)
