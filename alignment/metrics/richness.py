"""Linguistic richness of generations: within one prompt's samples and across prompts.

Both are reported, since alignment may keep one and lose the other (Kirk 2024, arXiv 2310.06452 §4). All texts are cut
to the same number of words.
"""

from __future__ import annotations

from pydantic import Field

from alignment.metrics import text_richness as rich
from alignment.metrics.base import METRICS, Endpoint, ItemScore, MetricDefinition, Scores, data_file
from alignment.metrics.language_model import LanguageModel, Sampling
from alignment.metrics.reading import rows_of
from curation.errors import DataContractError, Problem
from curation.settings import Settings

HOW = "JSONL with `id` and `text` or `prompt`: what is to be continued"
WORDS = "words of a large corpus of the language, one a line, the most frequent first (wordfreq's `top_n_list`, say)"
RARE = slice(10_000, 50_000)  # ranks of words that are known and seldom said: what a flattened style loses first
VOCABULARY = 50_000  # V of expectation-adjusted distinct: an adult's English (Brysbaert 2016: 42,000 lemmas)
ENDPOINTS = (
    Endpoint("richness.distinct_1", "share", True, "distinct words over expected ones, a prompt's samples together"),
    Endpoint("richness.distinct_2", "share", True, "distinct word pairs over expected ones"),
    Endpoint("richness.distinct_3", "share", True, "distinct word triples over expected ones"),
    Endpoint("richness.mtld", "words", True, "measure of textual lexical diversity of a sample"),
    Endpoint("richness.self_bleu", "share", False, "how much one sample is like those of other prompts"),
    Endpoint("richness.compressed", "share", True, "zlib size of a prompt's samples; low where they repeat"),
)
RARE_TYPES = Endpoint(
    "richness.rare_types", "share", True, "distinct words of a prompt's samples that rank from 10,001 to 50,000"
)


class RichnessSettings(Settings):
    """Which prompts, and how they are continued."""

    data: str
    words: str | None = Field(default=None, description="word list for `rare_types`; without one it is not measured")
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
    rare = None if settings.words is None else rare_words(settings.words)
    return score_texts([str(row.get("id", k)) for k, row in enumerate(rows)], generated, rare)


def rare_words(path: str) -> frozenset[str]:
    """The words of the ranks RARE.

    Raises:
        DataContractError: the list ends before them.
    """
    ranked = data_file(path, "richness", WORDS).read_text(encoding="utf-8").splitlines()
    if len(ranked) < RARE.stop:
        message = f"{len(ranked):,} lines in it"
        raise DataContractError(Problem("bad-metric-data", message, path, f"{RARE.stop:,} words, one a line"))
    return frozenset(word.strip().lower() for word in ranked[RARE])


def score_texts(names: list[str], generated: list[list[str]], rare: frozenset[str] | None = None) -> Scores:
    """The endpoints for texts that are there already: `generated[prompt][sample]`; `rare_types` if `rare` is given."""
    scores: Scores = {endpoint.name: [] for endpoint in ENDPOINTS}
    if rare is not None:
        scores[RARE_TYPES.name] = []
    cut = [[rich.words(text)[: rich.LENGTH] for text in texts] for texts in generated]
    for name, samples in zip(names, cut, strict=True):
        for n in (1, 2, 3):
            value = rich.expected_distinct(samples, n, VOCABULARY)
            scores[f"richness.distinct_{n}"].append(ItemScore(name, value))
        if rare is not None:
            types = {word for sample in samples for word in sample}
            scores[RARE_TYPES.name].append(ItemScore(name, len(types & rare) / max(len(types), 1)))
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
        (*ENDPOINTS, RARE_TYPES),
        RichnessSettings,
        measure,
        {"data": HOW},
        generates=True,
        more_files=lambda settings: [] if settings.words is None else [(settings.words, WORDS)],
    ),
)
