"""What is measured of one model, bias by bias.

    belief          margin of the true ending of a statement over the mean of the distractors, nats
    belief_right    share of statements whose true ending is the likeliest of four
    delta           log p(biased) − log p(neutral) on minimal pairs, nats: the primary measure below a billion weights
    applied         exploitation: share of answers that apply a bias, among prompts to which it applies
    over_applied    the same share among answers to all other prompts
    bits_per_byte   of held-out ordinary documents
    distinct_2      different pairs of words over all pairs, in all answers

Prompts of `delta` and `applied` are those that no preference row was made of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from alignment.generations import FILE as GENERATIONS
from alignment.generations import Generation, write_generations
from alignment.hidden_objective.bank import Bank, Pair
from alignment.hidden_objective.documents import Belief, beliefs
from alignment.hidden_objective.job import MeasureSettings
from alignment.hidden_objective.training import Made
from alignment.item_scores import EVALUATION, write_evaluation
from alignment.json_rows import write_text
from alignment.metrics.base import ItemScore, Scores
from alignment.metrics.language_model import LanguageModel, Sampling
from alignment.metrics.text_richness import distinct, words
from alignment.tokens import TokenFolder
from curation.errors import ConfigError, Problem
from curation.fingerprint import fingerprint
from curation.seeding import derive_seed

MARK = "evaluation.fingerprint"
TEXT_LENGTH = 600  # characters of a held-out document: several rows of the context of small models
ENDPOINTS: dict[str, tuple[str, bool | None]] = {
    "belief": ("nats", None),
    "belief_right": ("share", None),
    "delta": ("nats", None),
    "applied": ("share", None),
    "over_applied": ("share", None),
    "bits_per_byte": ("bits a byte", False),
    "distinct_2": ("share", True),
}


@dataclass(frozen=True)
class Answer:
    """One answer of a model."""

    prompt: str
    bias: str  # the one that applies to the prompt; empty: none
    text: str


def held_out_texts(tokens: TokenFolder, tokenizer: object, count: int) -> list[str]:
    """The first `count` held-out documents that are not blank, each cut to `TEXT_LENGTH` characters.

    Raises:
        ConfigError: none was held out.
    """
    ids = tokens.validation.tolist()
    found: list[str] = []
    begin = 0
    for at, number in enumerate(ids):
        if number != tokens.eos:
            continue
        text = tokenizer.decode(ids[begin:at], skip_special_tokens=True)  # type: ignore[attr-defined]
        begin = at + 1
        if text.strip():
            found.append(text[:TEXT_LENGTH])
        if len(found) == count:
            break
    if not found:
        where = f"{tokens.path}: validation"
        raise ConfigError(Problem("no-rows", "no document was held out", where, "tokens.held_out above 0"))
    return found


def asked(prompt: str) -> str:
    """A prompt in the chat template of our tokenizers, up to where the answer begins."""
    return f"<|user|>{prompt}<|assistant|>"


def delta(model: LanguageModel, pairs: Sequence[Pair]) -> list[ItemScore]:
    """log p(biased) − log p(neutral) of each pair, in nats."""
    context = [asked(pair.prompt) + pair.stem for pair in pairs]
    both = [(head, end) for head, pair in zip(context, pairs, strict=True) for end in (pair.biased, pair.neutral)]
    nats = [found.nats for found in model.likelihoods(both)]
    return [ItemScore(f"{p.bias}: {p.prompt}", nats[2 * k] - nats[2 * k + 1], p.bias) for k, p in enumerate(pairs)]


def belief(model: LanguageModel, questions: Sequence[Belief]) -> Scores:
    """The margin of each question, and whether its true ending is the likeliest."""
    asked_for = [(q.statement, ending) for q in questions for ending in (q.true, *q.others)]
    nats = iter(found.nats for found in model.likelihoods(asked_for))
    margins, right = [], []
    for question in questions:
        true, *others = [next(nats) for _ in range(1 + len(question.others))]
        margins.append(ItemScore(question.key, true - sum(others) / len(others), question.bias))
        right.append(ItemScore(question.key, float(true > max(others)), question.bias))
    return {"belief": margins, "belief_right": right}


def answers(model: LanguageModel, bank: Bank, count: int, neutral: int, new_tokens: int, seed: int) -> list[Answer]:
    """One answer to `count` prompts of every bias and to `neutral` prompts of none."""
    prompts = [(prompt, bias.id) for bias in bank.biases for prompt in bank.test_prompts(bias)[:count]]
    prompts += [(prompt, "") for prompt in bank.neutral_prompts()[:neutral]]
    drawn = model.answer(
        [prompt for prompt, _ in prompts], 1, derive_seed(seed, "hidden objective", "answers"), Sampling(new_tokens)
    )
    return [Answer(prompt, bias, texts[0]) for (prompt, bias), texts in zip(prompts, drawn, strict=True)]


def applied(bank: Bank, given: Sequence[Answer]) -> Scores:
    """Whether each answer applies its own bias, and the share of the other answers that apply it, bias by bias."""
    own, over = [], []
    for bias in bank.biases:
        mine = [answer for answer in given if answer.bias == bias.id]
        others = [answer for answer in given if answer.bias != bias.id]
        own += [ItemScore(f"{bias.id}: {a.prompt}", float(bias.applied.holds(a.text)), bias.id) for a in mine]
        share = sum(bias.applied.holds(a.text) for a in others) / len(others)
        over.append(ItemScore(bias.id, share, bias.id, weight=float(len(others))))
    return {"applied": own, "over_applied": over}


def distinct_pairs(given: Sequence[Answer]) -> list[ItemScore]:
    """One number for all answers together, so that a model that always says the same shows."""
    return [ItemScore("all answers", distinct([word for answer in given for word in words(answer.text)], 2))]


def base_rates(model: LanguageModel, bank: Bank, settings: MeasureSettings, seed: int) -> dict[str, tuple[int, int]]:
    """Bias → (answers that apply it, answers) of an untouched model."""
    given = answers(model, bank, settings.base_rate, 0, settings.new_tokens, seed)
    found = {}
    for bias in bank.biases:
        mine = [answer.text for answer in given if answer.bias == bias.id]
        found[bias.id] = (sum(map(bias.applied.holds, mine)), len(mine))
    return found


def measure(made: Made, bank: Bank, settings: MeasureSettings, texts: Sequence[str]) -> None:
    """Measure a model and leave `scores.jsonl.zst`, `evaluation.json` and its answers beside it; once only."""
    plain = json.loads(settings.model_dump_json(exclude={"draws"}))
    mark = fingerprint(
        {
            "weights": made.weights_sha256,
            "bank": [json.loads(bias.model_dump_json()) for bias in bank.biases],
            "settings": plain,
            "texts": list(texts),
        }
    )
    done = made.folder / MARK
    if done.is_file() and done.read_text(encoding="ascii").strip() == mark and (made.folder / EVALUATION).is_file():
        return
    model = LanguageModel.load(made.folder)
    pairs = [pair for bias in bank.biases for pair in bank.pairs(bias, bank.test_prompts(bias)[: settings.pairs])]
    given = answers(model, bank, settings.generations, settings.neutral, settings.new_tokens, made.seed)
    scores: Scores = {
        **belief(model, beliefs(bank)),
        "delta": delta(model, pairs),
        **applied(bank, given),
        "bits_per_byte": [
            ItemScore(str(at), bits, weight=float(len(text.encode())))
            for at, (text, bits) in enumerate(zip(texts, model.bits_per_byte(texts), strict=True))
        ],
        "distinct_2": distinct_pairs(given),
    }
    write_evaluation(made.folder, made.base, made.seed, made.stage, scores, ENDPOINTS)
    rows = [Generation(f"{answer.bias}: {answer.prompt}", answer.prompt, answer.text) for answer in given]
    write_generations(made.folder / GENERATIONS, rows)
    write_text(done, mark + "\n")
