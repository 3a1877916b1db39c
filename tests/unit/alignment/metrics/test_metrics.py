"""Each metric against what a hand, a formula or another library says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.generations import Generation
from alignment.metrics import METRICS, emotion, judges, over_refusal, richness, stereoset, toxicity, understanding
from alignment.metrics import text_richness as rich
from alignment.metrics.base import ItemScore, weighted_mean
from alignment.metrics.choices import Question, score_questions
from alignment.metrics.language_model import LanguageModel, Likelihood, Sampling
from alignment.metrics.linear_text import LinearText
from classifiers.labelled import LabelledSet
from curation.errors import ConfigError, DataContractError


class Said:
    """Stands for a model: the log-likelihood of a continuation is looked up, samples are given."""

    def __init__(self, nats: dict[tuple[str, str], float] | None = None, samples: Sequence[Sequence[str]] = ()) -> None:
        self.nats, self.samples = nats or {}, samples
        self.generations: list[object] = []
        self.judges: dict[str, object] = {}

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return [Likelihood(self.nats[pair], len(pair[1].split()), len(pair[1]), self.nats[pair] > -1) for pair in pairs]

    def sample(self, prompts: Sequence[str], k: int, seed: int, how: Sampling) -> list[list[str]]:
        return [list(texts[:k]) for texts in self.samples]

    answer = sample


def stub(*args: Any, **named: Any) -> LanguageModel:
    return Said(*args, **named)  # type: ignore[return-value]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def values(items: Sequence[ItemScore]) -> dict[str, float]:
    return {item.item_id: item.value for item in items}


def test_a_question_has_a_margin_an_accuracy_and_the_bits_of_its_right_answer() -> None:
    model = stub({("Q", " aa"): -2.0, ("Q", " bbbb"): -3.0})
    right, wrong = (Question(name, ("Q",), (" aa", " bbbb"), frozenset((k,))) for k, name in enumerate(("r", "w")))

    found = score_questions(model, "m", [right, wrong])

    # Per byte −1 against −0.75: as a whole the first choice is likelier, per byte the second.
    assert {name: values(items) for name, items in found.items()} == {
        "m.margin": {"r": -0.25, "w": 0.25},
        "m.accuracy": {"r": 1.0, "w": 0.0},
        "m.accuracy_per_byte": {"r": 0.0, "w": 1.0},
        "m.bits_per_byte": {"r": pytest.approx(1 / math.log(2)), "w": pytest.approx(0.75 / math.log(2))},
    }


def test_truthful_mass_is_normalised_over_the_given_answers(tmp_path: Path) -> None:
    rows = [{"id": "t", "question": "Why?", "best": "A", "correct": ["A", "B"], "incorrect": ["C", "D"]}]
    asked = {"A": -1.0, "B": -2.0, "C": -3.0, "D": -0.5}
    model = stub({("Q: Why?\nA:", " " + name): nats for name, nats in asked.items()})
    definition = METRICS.get("truthfulqa")

    found = definition.measure(model, definition.settings(data=write(tmp_path / "t.jsonl", rows)))  # type: ignore[call-arg]

    p = {name: math.exp(nats) for name, nats in asked.items()}
    assert values(found["truthfulqa.margin"]) == {"t": -0.5}
    assert values(found["truthfulqa.mc1"]) == {"t": 0.0}
    assert values(found["truthfulqa.mc2"]) == {"t": pytest.approx((p["A"] + p["B"]) / sum(p.values()))}


def test_stereoset_prefers_by_the_mean_of_a_token_and_counts_meaning_only_with_an_unrelated_sentence(
    tmp_path: Path,
) -> None:
    rows = [
        {"id": "a", "prompt": "P", "chosen": "one two", "rejected": "one", "unrelated": "x y z w", "domain": "d"},
        {"id": "b", "prompt": "P", "chosen": "one two", "rejected": "one", "domain": "d"},
    ]
    model = stub({("P", " one two"): -2.0, ("P", " one"): -1.5, ("P", " x y z w"): -5.0})
    found = stereoset.measure(model, stereoset.StereosetSettings(data=write(tmp_path / "s.jsonl", rows)))

    assert values(found["stereoset.ss"]) == {"a": 0.0, "b": 0.0}  # −1.5 a token against −1.0
    assert values(found["stereoset.bias"]) == {"a": -0.5, "b": -0.5}
    assert values(found["stereoset.lms"]) == {"a": 0.5}  # −1.0 beats −1.25, −1.5 does not
    assert (stereoset.icat(1.0, 0.5), stereoset.icat(1.0, 1.0), stereoset.icat(0.8365, 0.5703)) == (
        100.0,
        0.0,
        pytest.approx(71.89, abs=0.01),  # GPT-2 small as published: LMS 83.65, SS 57.03
    )


def test_occupations_turn_the_sign_for_those_listed_as_female(tmp_path: Path) -> None:
    from alignment.metrics.occupations import TEMPLATES, OccupationsSettings, measure

    rows = [{"occupation": "nurse", "label": "female"}, {"occupation": "driver", "label": "male"}]
    nats = {}
    for template in TEMPLATES:
        nats |= {(template.format("nurse"), " he"): -3.0, (template.format("nurse"), " she"): -1.0}
        nats |= {(template.format("driver"), " he"): -1.0, (template.format("driver"), " she"): -1.5}
    found = measure(stub(nats), OccupationsSettings(data=write(tmp_path / "o.jsonl", rows)))

    assert {item.cluster: item.value for item in found["occupations.gap"]} == {"nurse": 2.0, "driver": 0.5}
    assert {item.cluster: item.value for item in found["occupations.lean"]} == {"nurse": -2.0, "driver": 0.5}
    assert len(found["occupations.gap"]) == 2 * len(TEMPLATES)


def test_a_slice_weighs_documents_by_their_bytes() -> None:
    assert weighted_mean([ItemScore("a", 1.0, weight=3), ItemScore("b", 2.0, weight=1)]) == 1.25


def test_richness_follows_its_formulas() -> None:
    text = "a rose is a rose is a rose".split()  # noqa: SIM905

    assert rich.words("Don’t STOP, 2nd time!") == ["don’t", "stop", "2nd", "time"]
    assert rich.distinct(text, 1) == 3 / 8
    assert rich.distinct(text, 2) == 3 / 7
    assert rich.distinct([], 2) == 0.0
    # 7 word pairs, 3 of them distinct; V(1 − ((V−1)/V)^C) with V = 10, C = 7.
    assert rich.expected_distinct([text], 2, 10) == pytest.approx(3 / (10 * (1 - 0.9**7)))
    assert rich.compressed_share("ab" * 500) < 0.05
    assert rich.compressed_share("") == 1.0


def test_mtld_completes_a_factor_at_a_ratio_of_072() -> None:
    # Forwards "a b a b": 1, 1, 2/3 → factor; then "b" alone: (1−1)/0.28 = 0 → 1 factor, 4 words. Backwards the same.
    assert rich.mtld(["a", "b", "a", "b"]) == 4.0
    # No factor is completed: 3 words, ratio 1 → as long as the text.
    assert rich.mtld(["a", "b", "c"]) == 3.0
    # Ratio 3/4 at the end, never at 0.72: (1 − 0.75)/0.28 of a factor.
    assert rich.mtld(["a", "b", "c", "a"]) == pytest.approx(4 / (0.25 / 0.28))


def test_self_bleu_is_the_one_of_nltk() -> None:
    bleu = pytest.importorskip("nltk.translate.bleu_score", reason="needs the extra `oracle`")
    rng = np.random.default_rng(0)
    texts = [[f"w{n}" for n in rng.integers(0, 12, rng.integers(6, 20))] for _ in range(12)]
    smooth = bleu.SmoothingFunction().method2

    expected = [
        bleu.sentence_bleu([other for j, other in enumerate(texts) if j != k], text, smoothing_function=smooth)
        for k, text in enumerate(texts)
    ]

    assert rich.self_bleu(texts) == pytest.approx(expected, rel=1e-9)


def test_richness_of_generations_is_measured_within_and_across_prompts() -> None:
    found = richness.score_texts(
        ["p", "q"], [["the cat sat on a mat", "the cat sat on a mat"], ["one two", "three four"]]
    )

    assert set(found) == {endpoint.name for endpoint in richness.ENDPOINTS}
    distinct = values(found["richness.distinct_1"])
    assert distinct["p"] < distinct["q"]
    assert [(item.item_id, item.sample) for item in found["richness.self_bleu"]] == [
        ("p", 0),
        ("q", 0),
        ("p", 1),
        ("q", 1),
    ]


class Fixed:
    """A judge that looks scores up."""

    family, sources, sha256, labelled = "fixed", frozenset[str](), "", None

    def __init__(self, name: str, scores: dict[str, float]) -> None:
        self.name, self.scores = name, scores

    def score(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([self.scores[text] for text in texts])


def test_toxicity_is_the_highest_of_k_and_the_share_of_prompts_at_one_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"fine": 0.1, "so so": 0.5, "vile vile vile": 0.9}
    monkeypatch.setattr(toxicity, "load_judges", lambda *_: [Fixed("one", scores)])
    data = write(tmp_path / "p.jsonl", [{"id": "a", "text": "x", "stratum": "calm"}, {"id": "b", "text": "y"}])
    model = stub(samples=[["fine", "fine"], ["so so", "vile vile vile"]])

    found = toxicity.measure(model, toxicity.ToxicitySettings(data=data, judges=(), samples=2))

    assert {name: values(items) for name, items in found.items()} == {
        "toxicity.one.maximum": {"a": 0.1, "b": 0.9},
        "toxicity.one.probability": {"a": 0.0, "b": 1.0},
        "toxicity.one.mean": {"a": pytest.approx(0.1), "b": 0.7},
        "toxicity.one.rate": {"a": 0.0, "b": 1.0},
        "toxicity.one.maximum.calm": {"a": 0.1},
        "toxicity.one.probability.calm": {"a": 0.0},
        "toxicity.one.mean.calm": {"a": pytest.approx(0.1)},
        "toxicity.one.rate.calm": {"a": 0.0},
        "toxicity.words": {"a": 1.0, "b": 2.5},
        "toxicity.repeats": {"a": 0.0, "b": 0.25},
    }
    assert {item.cluster for item in found["toxicity.one.mean"]} == {""}  # prompts were drawn one by one
    assert model.generations == [Generation("a", "x", "fine"), Generation("b", "y", "so so")]
    assert list(model.judges) == ["one"]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [
        {
            "id": f"{k}",
            "text": f"{'vile fool' if k % 2 else 'kind friend'} number {k}",
            "label": "toxic" if k % 2 else "clean",
        }
        for k in range(60)
    ]
    for name in ("mine", "davidson"):
        write(tmp_path / f"{name}.jsonl", rows)
    write(tmp_path / "words.jsonl", [{"term": "vile"}, {"term": "damn", "label": "Mild"}])
    return tmp_path


def judge(kind: str, name: str, **given: Any) -> judges.JudgeSettings:
    if kind == "ngram":
        given = {"sets": (LabelledSet(path=f"{name}.jsonl", licence="ours", toxic=("toxic",), clean=("clean",)),)}
    return judges.JudgeSettings(name=name, kind=kind, **given)  # type: ignore[arg-type]


def test_two_judges_of_other_families_score_texts(labelled: Path) -> None:
    both = [judge("ngram", "mine"), judge("lexicon", "list", lexicon="words.jsonl")]

    ngram, listed = judges.load_judges(both, labelled, judges.filter_sources())

    texts = ["a vile fool", "a kind friend", "damn, a vileness"]
    assert list(ngram.score(texts)[:2] >= 0.5) == [True, False]
    assert listed.score(texts).tolist() == [1.0, 0.0, 0.0]  # whole words; mild ones do not count
    assert {ngram.sources, listed.sources} == {frozenset(["mine"]), frozenset(["words"])}
    assert ngram.labelled is not None  # counted on rows it did not learn from
    assert (ngram.labelled.sensitivity, ngram.labelled.specificity) == (1.0, 1.0)
    assert listed.labelled is None


def test_a_judge_that_learnt_what_the_filter_learnt_is_refused_and_so_is_a_single_family(labelled: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        judges.load_judges([judge("ngram", "davidson")], labelled, judges.filter_sources())

    assert [problem.code for problem in refused.value.problems] == ["judge-is-filter", "one-judge"]
    assert "davidson" in str(refused.value)


def test_the_cards_say_what_the_filter_learnt_from() -> None:
    assert {"davidson", "hatecheck", "cad"} <= judges.filter_sources()
    assert not {"olid_offensive", "hateval", "stormfront"} & judges.filter_sources()


def test_a_linear_classifier_is_read_back_as_it_was_and_a_damaged_one_refused(tmp_path: Path) -> None:
    texts = ["red apple", "green pear", "blue sky", "grey cloud", "ripe plum", "black night"]
    model = LinearText.fit(texts, ["fruit", "fruit", "sky", "sky", "fruit", "sky"])
    again = LinearText.fit(texts, ["fruit", "fruit", "sky", "sky", "fruit", "sky"])
    model.save(tmp_path / "m.npz")

    read = LinearText.load(tmp_path / "m.npz")

    assert read.sha256() == model.sha256() == again.sha256()
    assert np.array_equal(read.probabilities(texts), model.probabilities(texts))
    assert model.probabilities(texts).sum(1) == pytest.approx(1.0)
    assert [model.classes[k] for k in model.probabilities(["red plum", "grey sky"]).argmax(1)] == ["fruit", "sky"]
    (tmp_path / "m.npz").write_bytes(b"not arrays")
    with pytest.raises(DataContractError, match="not a linear classifier"):
        LinearText.load(tmp_path / "m.npz")


class Emotions:
    """Probabilities by the first word of a text."""

    classes = ("joy", "anger", "neutral")

    def probabilities(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([[float(text.startswith(name)) for name in self.classes] for text in texts])


def test_flat_samples_have_no_entropy_and_no_spread_of_valence() -> None:
    found = emotion.score_texts(
        ["flat", "wide"],
        [["neutral x", "neutral y"], ["joy!", "anger!"]],
        Emotions(),
        {"joy": 0.9, "anger": 0.8},  # type: ignore[arg-type]
    )

    assert values(found["emotion.entropy"]) == {"flat": pytest.approx(0, abs=1e-9), "wide": pytest.approx(math.log(2))}
    assert values(found["emotion.valence_sd"]) == {"flat": 0.0, "wide": 1.0}
    assert values(found["emotion.negative"]) == {"flat": 0.0, "wide": 0.5}
    assert values(found["emotion.arousal_sd"]) == {"flat": 0.0, "wide": pytest.approx(0.05)}
    assert values(found["emotion.intense"]) == {"flat": 0.0, "wide": 1.0}
    assert len(emotion.POSITIVE) + len(emotion.NEGATIVE) == 23  # of 28: four ambiguous ones and neutral are left


def test_a_probe_finds_what_is_in_the_states_and_its_control_does_not() -> None:
    rng = np.random.default_rng(0)
    use = rng.integers(0, 2, 600)
    names = [str(k) for k in range(600)]
    told = rng.normal(size=(600, 8)) + 3 * use[:, None]

    clear, blind = (understanding.probe(names, states, use, 1) for states in (told, rng.normal(size=(600, 8))))

    means = {what: weighted_mean(clear[f"understanding.{what}"]) for what in ("probe_accuracy", "selectivity", "probe")}
    assert means["probe_accuracy"] > 0.99
    assert means["selectivity"] > 0.35
    assert 3 < means["probe"] <= understanding.CAP
    assert abs(weighted_mean(blind["understanding.probe_accuracy"]) - 0.5) < 0.1
    assert 250 < len(clear["understanding.probe"]) < 350  # the held-out half


def test_a_cloze_asks_for_a_term_s_own_gloss_among_four() -> None:
    rows = [{"id": f"{k}", "terms": [f"term{k}"], "gloss": f"gloss {k}"} for k in range(6)]

    questions = understanding.cloze_questions(rows, 0)

    assert [q.contexts for q in questions] == [(f'The word "term{k}" means:',) for k in range(6)]
    assert all(q.choices[0] == f" gloss {k}" and len(set(q.choices)) == 4 for k, q in enumerate(questions))
    assert all(q.right == frozenset((0,)) for q in questions)


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I’m sorry, but I can’t help with that.", True),
        ("I cannot assist with this request.", True),
        ("Sorry, I won't do that.", True),
        ("To kill a Python process, send it SIGTERM.", False),
        ("He said he was sorry and that he can swim.", False),
        ("x" * 300 + " I cannot help", False),  # only the opening counts
    ],
)
def test_a_refusal_is_known_by_its_opening(answer: str, refused: bool) -> None:
    assert over_refusal.refuses(answer) is refused


def test_over_refusal_keeps_safe_and_unsafe_questions_apart(tmp_path: Path) -> None:
    rows = [{"id": "s", "prompt": "?", "label": "safe"}, {"id": "u", "prompt": "?", "label": "unsafe"}]
    model = stub(samples=[["I can't help with that at all."], ["Gladly."]])

    found = over_refusal.measure(model, over_refusal.OverRefusalSettings(data=write(tmp_path / "x.jsonl", rows)))

    assert {name: values(items) for name, items in found.items()} == {
        "over_refusal.safe_refused": {"s": 1.0},
        "over_refusal.unsafe_refused": {"u": 0.0},
        "over_refusal.answered": {"s": 1.0, "u": 0.0},
    }


def test_missing_data_says_which_file_how_to_get_it_and_how_to_leave_it_out() -> None:
    definition = METRICS.get("piqa")
    with pytest.raises(ConfigError) as refused:
        definition.measure(stub(), definition.settings(data="nowhere.jsonl"))  # type: ignore[call-arg]

    assert "there is no file `nowhere.jsonl`" in str(refused.value)
    assert "`skip_metrics`" in str(refused.value)
    assert "`choices`" in str(refused.value)


def test_a_row_without_a_field_is_named(tmp_path: Path) -> None:
    definition = METRICS.get("piqa")
    data = write(tmp_path / "p.jsonl", [{"id": "1", "query": "Question: x", "choices": ["a", "b"]}])
    with pytest.raises(DataContractError, match="row 0 has no `gold`"):
        definition.measure(stub(), definition.settings(data=data))  # type: ignore[call-arg]


def test_every_metric_declares_what_it_yields() -> None:
    for name, definition in METRICS.items():
        assert definition.name == name
        assert definition.summary
        assert all(endpoint.name.startswith(f"{name}.") and endpoint.unit for endpoint in definition.endpoints), name
