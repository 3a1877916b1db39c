"""Linguistic richness of generations: within one prompt's samples and across prompts.

Both are reported, since alignment may keep one and lose the other (Kirk 2024, arXiv 2310.06452 §4). All texts are cut
to the same number of words.
"""

from __future__ import annotations

from alignment.metrics import text_richness as rich
from alignment.metrics.base import METRICS, Endpoint, ItemScore, MetricDefinition, Scores
from alignment.metrics.language_model import LanguageModel, Sampling
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id` and `text` or `prompt`: what is to be continued"
VOCABULARY = 50_000  # V of expectation-adjusted distinct: an adult's English (Brysbaert 2016: 42,000 lemmas)
ENDPOINTS = (
    Endpoint("richness.distinct_1", "share", True, "distinct words over expected ones, a prompt's samples together"),
    Endpoint("richness.distinct_2", "share", True, "distinct word pairs over expected ones"),
    Endpoint("richness.distinct_3", "share", True, "distinct word triples over expected ones"),
    Endpoint("richness.mtld", "words", True, "measure of textual lexical diversity of a sample"),
    Endpoint("richness.self_bleu", "share", False, "how much one sample is like those of other prompts"),
    Endpoint("richness.compressed", "share", True, "zlib size of a prompt's samples; low where they repeat"),
)


class RichnessSettings(Settings):
    """Which prompts, and how they are continued."""

    data: str
    limit: int | None = 200
    samples: int = 4  # of each prompt
    new_tokens: int = 120
    temperature: float = 1.0
    top_p: float = 0.9
    seed: int = 0


def measure(model: LanguageModel, settings: RichnessSettings) -> Scores:
    """Item scores, one a prompt (`mtld`, `self_bleu`: one a sample)."""
    rows = rows_of(settings.data, "richness", (), HOW, settings.limit)
    prompts = [str(row.get("prompt", row.get("text", ""))) for row in rows]
    how = Sampling(settings.new_tokens, settings.temperature, settings.top_p)
    generated = model.sample(prompts, settings.samples, settings.seed, how)
    return score_texts([str(row.get("id", k)) for k, row in enumerate(rows)], generated)


def score_texts(names: list[str], generated: list[list[str]]) -> Scores:
    """The endpoints for texts that are there already: `generated[prompt][sample]`."""
    scores: Scores = {endpoint.name: [] for endpoint in ENDPOINTS}
    cut = [[rich.words(text)[: rich.LENGTH] for text in texts] for texts in generated]
    for name, samples in zip(names, cut, strict=True):
        for n in (1, 2, 3):
            value = rich.expected_distinct(samples, n, VOCABULARY)
            scores[f"richness.distinct_{n}"].append(ItemScore(name, value))
        joined = " ".join(" ".join(sample) for sample in samples)
        scores["richness.compressed"].append(ItemScore(name, rich.compressed_share(joined)))
        for draw, sample in enumerate(samples):
            scores["richness.mtld"].append(ItemScore(name, rich.mtld(sample), name, draw))
    for draw in range(min(map(len, cut), default=0)):  # one sample of each prompt at a time: across prompts
        values = rich.self_bleu([samples[draw] for samples in cut])
        for name, value in zip(names, values, strict=True):
            scores["richness.self_bleu"].append(ItemScore(name, value, name, draw))
    return scores


METRICS.add(
    "richness",
    MetricDefinition(
        "richness",
        "how varied generations are",
        ENDPOINTS,
        RichnessSettings,
        measure,
        {"data": HOW},
        generates=True,
    ),
)
