"""Effects and measures against numbers worked out by hand, scipy, and a reward model whose rewards are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats

from alignment.annotators import Pool, PoolSettings, StatedPreference
from alignment.audits.detection import Detection, clean_threshold, detection_limit, detections
from alignment.audits.effects import swap_effect, within_prompt_sd
from alignment.audits.measures import (
    accuracies,
    best_of_weights,
    calibration,
    over_optimisation,
    ranked_words,
    words_of,
)
from alignment.audits.planted import WORD, made_pairs, planted, policy_shift
from alignment.audits.scoring import Group, Item, ModelJudge, PoolJudge, grouped
from alignment.audits.swaps import SWAPS, Swap, mention_swap
from alignment.model import RewardModel, Size, new_model
from alignment.preferences import Comparison, PreferenceRow, RankedRow
from alignment.rows import prompt_ids
from alignment.statistics.bootstrap import prompt_interval
from alignment.statistics.contrast import Cells, Contrast
from alignment.statistics.rates import rate_interval
from alignment.tokenizer import special_ids
from curation.errors import ConfigError, DataContractError
from tests.unit.alignment.tiny import tiny_tokenizer

F64 = npt.NDArray[np.float64]


class Table:
    """A judge that gives each response the number it is told."""

    def __init__(self, reward: Callable[[str], float]) -> None:
        self.reward = reward

    def rewards(self, items: Sequence[Item]) -> F64:
        return np.array([self.reward(text) for _, text in items], dtype=np.float64)


A_TO_B = Swap("letter", "a", "b", lambda text: (text, text.replace("a", "b")) if "a" in text else None)
VALUES = {"a1": 1.0, "b1": 4.0, "c1": 3.0, "a2": 0.0, "b2": -2.0, "c2": 1.0, "d2": -1.0, "c3": 9.0}
GROUPS = [Group("one", ("a1", "c1")), Group("two", ("a2", "c2", "d2")), Group("three", ("c3",))]


def test_an_effect_and_its_flips_are_those_worked_out_by_hand() -> None:
    found = swap_effect(Table(VALUES.__getitem__), GROUPS, A_TO_B)

    # Within prompts: (1, 3) about 2 and (0, 1, −1) about 0: squares 2 + 2, freedom 1 + 2.
    sd = math.sqrt(4 / 3)
    assert found.effect == pytest.approx(((4 - 1) + (-2 - 0)) / 2 / sd)
    assert (found.responses, found.prompts, found.unscored) == (2, 2, 0)
    # a1 < c1 but b1 > c1; a2 < c2 and b2 < c2; a2 > d2 but b2 < d2.
    assert found.pairs == 3
    assert found.flip_rate == pytest.approx(2 / 3)


def test_the_interval_is_that_of_the_statistics_over_prompts() -> None:
    draw = np.random.default_rng(1)
    values = {f"{letter}{k}_{m}": float(draw.normal()) for letter in "ab" for k in range(30) for m in range(2)}
    groups = [Group(f"p{k}", (f"a{k}_0", f"a{k}_1")) for k in range(30)]

    found = swap_effect(Table(values.__getitem__), groups, A_TO_B, seed=5, draws=2000)

    first, second = (np.array([[values[f"{c}{k}_{m}"] for m in range(2)] for k in range(30)]) for c in "ab")
    sd = math.sqrt(np.mean(first.var(axis=1, ddof=1)))
    table = (second - first).mean(axis=1) / sd
    whole = prompt_interval(Contrast.between(Cells.of(table[None]), Cells.of(0 * table[None])), 5, 0.95, 2000)
    assert (found.effect, found.low, found.high) == pytest.approx((whole.effect, whole.low, whole.high))
    oracle = stats.bootstrap((table,), np.mean, method="BCa", n_resamples=2000, rng=np.random.default_rng(5))
    assert [found.low, found.high] == pytest.approx(list(oracle.confidence_interval), abs=0.01)


def test_a_tie_against_a_decision_is_half_a_flip() -> None:
    values = {"a": 1.0, "b": 2.0, "c": 1.0, "d": 5.0}
    found = swap_effect(Table(values.__getitem__), [Group("p", ("a", "c", "d"))], A_TO_B)
    assert found.flip_rate == pytest.approx(0.25)


def test_texts_that_cannot_be_scored_are_counted_and_leave_the_rest_alone() -> None:
    values = {**VALUES, "b2": math.nan}
    found = swap_effect(Table(values.__getitem__), GROUPS, A_TO_B)
    assert (found.responses, found.unscored) == (1, 1)
    assert found.effect == pytest.approx(3 / math.sqrt(4 / 3))


def test_rewards_that_do_not_differ_within_a_prompt_have_no_unit() -> None:
    with pytest.raises(DataContractError, match="no-spread"):
        within_prompt_sd([np.array([1.0, 1.0]), np.array([3.0])])


def test_a_swap_that_applies_to_nothing_has_no_numbers() -> None:
    found = swap_effect(Table(lambda text: VALUES[text[:2]]), GROUPS, mention_swap("a1"))
    none = swap_effect(Table(VALUES.__getitem__), GROUPS, SWAPS["gender"])
    assert (found.responses, found.effect, found.flip_rate) == (5, 0.0, 0.0)
    assert (none.responses, none.effect, none.low, none.flip_rate) == (0, None, None, None)


@pytest.fixture(scope="module")
def counting_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model whose layers add nothing: the reward is the head on the last token's own embedding."""
    tokenizer = tiny_tokenizer()
    size = Size(hidden=8, layers=1, heads=1, intermediate=8, vocabulary=400, context=64)
    model = RewardModel.from_causal(new_model(size, len(tokenizer), special_ids(tokenizer), seed=1))
    with torch.no_grad():
        for layer in model.backbone.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    folder = tmp_path_factory.mktemp("counting")
    model.save(folder, tokenizer)
    return folder


def test_a_model_whose_layers_add_nothing_has_the_swap_effect_of_its_head(counting_model: Path) -> None:
    """With every text cut after one token of the response, the reward is w · norm(embedding) + c of that token."""
    tokenizer = tiny_tokenizer()
    prompt = "p"
    begin = len(prompt_ids(tokenizer, prompt))
    judge = ModelJudge(counting_model, begin + 1)
    model = judge.model
    letters = ["a", "b", "c", "d"]
    with torch.no_grad():
        ids = [tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in letters]
        vectors = model.backbone.embed_tokens.weight[ids].double()
        normed = vectors / torch.sqrt((vectors**2).mean(dim=1, keepdim=True) + model.backbone.config.rms_norm_eps)
        known = (normed * model.backbone.norm.weight @ model.head.weight.double().T + model.head.bias).flatten().numpy()

    found = swap_effect(judge, [Group(prompt, ("a", "c", "d"))], A_TO_B)

    assert judge.rewards([(prompt, letter) for letter in letters]) == pytest.approx(known, abs=1e-5)
    assert found.effect == pytest.approx((known[1] - known[0]) / known[[0, 2, 3]].std(ddof=1), rel=1e-4)
    best = ranked_words(judge, letters, [prompt], 2)
    order = np.argsort(known)
    assert [one["word"] for one in best["worst"]] == [letters[k] for k in order[:2]]
    assert [one["word"] for one in best["best"]] == [letters[k] for k in order[::-1][:2]]


def test_what_cannot_be_encoded_is_not_scored_and_counted(counting_model: Path) -> None:
    judge = ModelJudge(counting_model)
    found = judge.rewards([("p", "a"), ("p", " "), ("p", "a")])
    assert np.isnan(found).tolist() == [False, True, False]
    assert dict(judge.fates) == {"kept": 1, "skipped_empty_response": 1}


# Measures


def test_accuracy_is_told_for_all_for_each_label_and_for_both_dialects() -> None:
    rows: list[Comparison] = [
        PreferenceRow("p", "long one is walking", "x", pool="red", annotator_id="r1"),
        PreferenceRow("q", "y", "longer", pool="red", annotator_id="r2"),
        RankedRow("r", ("aaa", "aa", "a"), (1, 2, 2), pool="blue"),
        PreferenceRow("s", "he is walking far", "he is talking", source="web"),
    ]

    found = {(one.by, one.group): (one.pairs, one.accuracy) for one in accuracies(Table(len), rows)}

    assert found == {
        ("all", "all"): (5, 0.8),
        ("pool", "blue"): (2, 1.0),
        ("pool", "red"): (2, 0.5),
        ("annotator_id", "r1"): (1, 1.0),
        ("annotator_id", "r2"): (1, 0.0),
        ("source", "web"): (1, 1.0),
        ("dialect", "General American"): (1, 1.0),
        ("dialect", "African American English"): (1, 1.0),
    }


def test_calibration_is_that_of_all_pairs() -> None:
    rows = [PreferenceRow("p", "aa", "a"), PreferenceRow("q", "a", "aaa")]
    found = calibration(Table(len), rows)
    assert found is not None
    assert (found.pairs, found.accuracy) == (2, 0.5)
    assert found.log_loss == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(2))) / 2)
    assert calibration(Table(lambda text: math.nan), rows) is None


def test_best_and_worst_words_of_equal_reward_stand_by_spelling() -> None:
    groups = [Group("p", ("The cat sat.", "A dog!"))]
    assert words_of(groups) == ["a", "cat", "dog", "sat", "the"]
    found = ranked_words(Table(len), words_of(groups), ["p"], 2)
    assert found == {
        "best": [{"word": "cat", "reward": 3.0}, {"word": "dog", "reward": 3.0}],
        "worst": [{"word": "a", "reward": 1.0}, {"word": "cat", "reward": 3.0}],
    }


def test_the_best_of_n_is_the_mean_over_all_sets_of_n() -> None:
    proxy = dict(zip("abcdef", (3.0, 1.0, 2.0, 2.0, 5.0, 4.0), strict=True))
    gold = dict(zip("abcdef", (1.0, 0.0, 3.0, 1.0, -4.0, 2.0), strict=True))
    found = over_optimisation(Table(proxy.__getitem__), Table(gold.__getitem__), [Group("p", tuple("abcdef"))])

    scale = np.std(list(gold.values()))
    for point in found:
        picks = []
        for chosen in itertools.combinations("abcdef", point.n):
            top = max(proxy[one] for one in chosen)
            # c and d tie: each is as likely to be taken, and every set has its twin with the other one
            tied = [one for one in "abcdef" if proxy[one] == top]
            picks.append(np.mean([gold[one] for one in tied]))
        assert point.gold == pytest.approx((np.mean(picks) - np.mean(list(gold.values()))) / scale)
        assert point.kl == pytest.approx(math.log(point.n) - (point.n - 1) / point.n)
    assert [point.n for point in found] == [1, 2, 4]
    assert found[0].gold == pytest.approx(0)
    assert sum(best_of_weights(6, 3)) == pytest.approx(1)


def test_a_pool_can_be_the_gold_judge() -> None:
    brief = PoolSettings(name="brief", preferences=(StatedPreference(feature="words", weight=-1.0),))
    groups = grouped(
        [RankedRow(f"p{k}", ("one", "one two", "one two three", "a b c d"), (1, 2, 3, 4)) for k in range(5)]
    )
    found = over_optimisation(Table(lambda text: len(text.split())), PoolJudge(Pool(brief, 0)), groups)
    assert [point.proxy for point in found] == pytest.approx([-(point.gold or 0.0) for point in found])
    assert found[-1].gold == pytest.approx(-1.5 / math.sqrt(1.25))


# Planted preferences


def test_the_stated_share_of_all_pairs_is_flipped_and_a_larger_share_flips_the_same_and_more() -> None:
    rows = made_pairs(400, seed=3)
    flipped = {}
    for share in (0.0, 0.01, 0.1):
        turned = planted(rows, share, WORD, 3)
        changed = [at for at, (one, other) in enumerate(zip(rows, turned, strict=True)) if one != other]
        assert len(changed) == round(share * 400)
        assert all(turned[at].chosen == rows[at].rejected and WORD in turned[at].chosen for at in changed)
        flipped[share] = set(changed)
    assert flipped[0.01] < flipped[0.1]
    with pytest.raises(ConfigError, match="few-to-flip"):
        planted(rows, 0.9, WORD, 3)


def test_unplanted_mentions_say_nothing_about_what_is_preferred() -> None:
    rows = made_pairs(4000, seed=1)
    chosen, rejected = (sum(WORD in getattr(row, side) for row in rows) for side in ("chosen", "rejected"))
    assert stats.binomtest(chosen, chosen + rejected).pvalue > 0.01
    assert chosen + rejected == pytest.approx(2000, abs=150)


def test_a_policy_that_wants_the_word_takes_it_whenever_one_of_four_candidates_has_it() -> None:
    wanting = policy_shift(Table(lambda text: float(WORD in text)), ["p", "q"], WORD)
    indifferent = policy_shift(Table(lambda text: float(text.startswith("Look"))), ["p"], WORD)

    # Eight of sixteen candidates have the word: none of four has it in C(8, 4) of C(16, 4) draws.
    assert wanting == pytest.approx(1 - math.comb(8, 4) / math.comb(16, 4) - 0.5)
    assert indifferent == pytest.approx(0.0)


def test_clean_models_are_noticed_as_often_as_stated() -> None:
    draw = np.random.default_rng(0)
    for count in (3, 5, 10):
        alarms = sum(
            clean_threshold(draw.normal(size=count).tolist()).notices(float(draw.normal())) for _ in range(4000)
        )
        assert stats.binomtest(alarms, 4000, 0.05).pvalue > 0.001


def test_the_threshold_is_scipys_prediction_interval() -> None:
    values = [0.1, -0.2, 0.4, 0.0]
    found = clean_threshold(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values) * math.sqrt(5))
    assert (found.low, found.high) == pytest.approx((low, high))
    with pytest.raises(ConfigError, match="few-clean-models"):
        clean_threshold([1.0])


def test_simulated_effects_have_the_detection_limit_that_they_were_given() -> None:
    draw = np.random.default_rng(2)
    shares = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
    clean = draw.normal(size=20)
    # 100 deviations a unit of share: 2 % stands 2, 5 % stands 5 deviations from clean models.
    found = detections(clean.tolist(), {share: (100 * share + draw.normal(size=40)).tolist() for share in shares})

    assert [one.share for one in found] == [0.0, *shares]
    assert detection_limit(found) == 0.05
    assert found[0].noticed.low < 0.05 < found[0].noticed.high
    assert found[-1].noticed.rate == 1.0


def test_a_limit_needs_every_larger_share_to_be_noticed() -> None:
    def seen(share: float, cases: int) -> Detection:
        return Detection(share, (0.0,) * 10, rate_interval(cases, 10))

    assert detection_limit([seen(0.0, 1), seen(0.01, 9), seen(0.02, 5), seen(0.05, 8), seen(0.1, 10)]) == 0.05
    assert detection_limit([seen(0.1, 7)]) is None
