"""Rollouts against the same numbers taken one row at a time, without padding."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from alignment.model import RewardModel, new_model  # noqa: E402
from alignment.rollout import (  # noqa: E402
    Rollout,
    SamplingSettings,
    collect,
    distinct,
    generation_config,
    rollout_seed,
    sample,
    sampling_gap,
    until_eos,
)
from curation.errors import ConfigError, StageError  # noqa: E402

IDS = {"pad": 0, "bos": 1, "eos": 2}
PROMPTS = [[1, 5, 6, 7, 8], [1, 9], [1, 4, 4], [1, 30, 31, 32, 33, 34, 35]]


def model(seed: int, scale: float = 3.0) -> Any:
    made = new_model("160k", 40, IDS, seed, context=64)
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim == 2:
                p.mul_(scale)
    return made.eval()


def planted(*responses: list[int]) -> tuple[Any, Any]:
    """`PROMPTS` with these responses, padded on the right."""
    width, begin = max(map(len, responses)), max(map(len, PROMPTS))
    rows = [[*[0] * (begin - len(p)), *p, *r, *[0] * (width - len(r))] for p, r in zip(PROMPTS, responses, strict=True)]
    response = torch.tensor([[k < len(r) for k in range(width)] for r in responses])
    return torch.tensor(rows), response


def collected(sampling: SamplingSettings, drawn: Any = None, scorer: Any = None) -> Rollout:
    reward = scorer or RewardModel.from_causal(model(3), 3).eval()
    critic = RewardModel.from_causal(model(4), 4).eval()
    return collect(model(0), model(1), critic, reward, PROMPTS, sampling, IDS, 11, drawn)


@pytest.mark.parametrize("rows_per_forward", [64, 3, 1])
def test_every_number_of_a_rollout_equals_that_of_its_row_alone(rows_per_forward):
    sampling = SamplingSettings(response_tokens=6, temperature=0.7, rows_per_forward=rows_per_forward)
    rollout = collected(sampling)
    policy, reference = model(0), model(1)
    reward, critic = (RewardModel.from_causal(model(seed), seed).eval() for seed in (3, 4))
    for row, prompt in enumerate(PROMPTS):
        length = int(rollout.lengths[row])
        answer = rollout.ids[row, len(prompt) : len(prompt) + length].tolist()
        ids = torch.tensor([[*prompt, *answer]])
        at = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
        with torch.no_grad():
            log_p = {
                name: (m(ids).logits[0, at] / 0.7).log_softmax(-1)
                for name, m in (("log_probs", policy), ("reference", reference))
            }
            mask = torch.ones_like(ids, dtype=torch.bool)
            values, score = critic.per_token(ids, mask)[0, at], reward(ids, mask)[0]
        for name, table in log_p.items():
            expected = table[torch.arange(length), torch.tensor(answer)]
            torch.testing.assert_close(getattr(rollout, name)[row, :length], expected, atol=2e-5, rtol=0)
            assert (getattr(rollout, name)[row, length:] == 0).all()
        expected = -(log_p["log_probs"].exp() * log_p["log_probs"]).sum(1)
        torch.testing.assert_close(rollout.entropy[row, :length], expected, atol=2e-5, rtol=0)
        torch.testing.assert_close(rollout.values[row, :length], values, atol=2e-5, rtol=0)
        torch.testing.assert_close(rollout.reward[row], score, atol=2e-5, rtol=0)
        assert bool(rollout.ended[row]) == (answer[-1] == 2)
        assert 2 not in answer[:-1]


def test_responses_end_with_their_first_end_of_text():
    tokens = torch.tensor([[5, 2, 7, 2], [2, 2, 2, 2], [5, 6, 7, 8], [5, 6, 7, 2]])
    assert until_eos(tokens, 2).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("missing_eos", "expected"),
    [("score", [0.5, -2.0, 0.5, 0.5]), ("subtract", [0.5, -1.5, 0.5, 0.5]), ("keep", [0.5] * 4)],
)
def test_a_response_without_an_end_is_scored_as_the_settings_say(missing_eos, expected):
    drawn = planted([5, 2], [6, 7, 8, 9], [2], [10, 11, 2])
    sampling = SamplingSettings(response_tokens=4, missing_eos=missing_eos, missing_eos_value=2.0)
    rollout = collected(sampling, drawn, lambda ids, mask: torch.full((len(ids),), 0.5))
    assert rollout.ended.tolist() == [True, False, True, True]
    assert rollout.score.tolist() == pytest.approx(expected)
    assert rollout.reward.tolist() == pytest.approx([0.5] * 4)
    assert rollout.lengths.tolist() == [2, 4, 1, 3]


def test_padding_that_the_policy_drew_counts_as_a_token():
    rollout = collected(SamplingSettings(response_tokens=4), planted([5, 0, 6, 2], [2], [2], [2]))
    assert rollout.ids[0].tolist()[:9] == [*PROMPTS[0], 5, 0, 6, 2]
    assert rollout.mask[0, :9].all()
    assert (rollout.log_probs[0] < 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_stops_the_stage_and_names_the_row(bad):
    def scorer(ids: Any, mask: Any) -> Any:
        return torch.where((ids == 9)[:, 3:].any(1), bad, 1.0)

    drawn = planted([5, 2], [6, 2], [7, 9], [8, 2])
    with pytest.raises(StageError) as error:
        collected(SamplingSettings(response_tokens=2), drawn, scorer)
    problem = error.value.problems[0]
    assert problem.code == "reward-not-finite"
    assert "1 of 4 episodes" in problem.message
    assert problem.where == "row 2 of the batch: tokens [1, 4, 4, 7, 9] … [1, 4, 4, 7, 9]"


@pytest.mark.parametrize(
    "options",
    [
        {"min_length": 3}, {"min_new_tokens": 3}, {"repetition_penalty": 1.2}, {"no_repeat_ngram_size": 3},
        {"top_k": 50}, {"top_p": 0.9}, {"typical_p": 0.9}, {"epsilon_cutoff": 1e-4}, {"bad_words_ids": [[5]]},
        {"suppress_tokens": [5]}, {"num_beams": 2}, {"do_sample": False}, {"temperature": 2.0}, {"min_p": 0.1},
        {"guidance_scale": 2.0}, {"no_such_option": 1},
    ],
)  # fmt: skip
def test_options_that_bend_what_is_sampled_are_refused_by_name(options):
    with pytest.raises(ConfigError) as error:
        generation_config(SamplingSettings(options=options), 0, 2)
    assert [p.where for p in error.value.problems] == [f"sampling.options.{name}" for name in options]


def test_a_checkpoints_own_generation_defaults_do_not_bend_sampling_and_stay_as_they_are():
    sampling = SamplingSettings(response_tokens=8)
    plain, bent = model(0), model(0)
    bent.generation_config.update(repetition_penalty=5.0, top_k=2, min_new_tokens=8, suppress_tokens=[2])
    expected = sample(plain, PROMPTS, sampling, 0, 2, seed=1)
    found = sample(bent, PROMPTS, sampling, 0, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert bent.generation_config.repetition_penalty == 5.0


def test_a_draw_depends_on_its_seed_alone_and_leaves_torchs_generator_alone():
    sampling, policy = SamplingSettings(response_tokens=8), model(0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = sample(policy, PROMPTS, sampling, 0, 2, rollout_seed(0, 1, 5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = sample(policy, PROMPTS, sampling, 0, 2, rollout_seed(0, 1, 5))
    other = sample(policy, PROMPTS, sampling, 0, 2, rollout_seed(0, 2, 5))
    assert torch.equal(first[0], again[0])
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


def test_first_tokens_are_drawn_with_the_tempered_probabilities():
    sampling, policy = SamplingSettings(response_tokens=1, temperature=0.7), model(0)
    draws = 20_000
    ids, _ = sample(policy, [PROMPTS[0]] * draws, sampling, 0, 2, seed=3)
    with torch.no_grad():
        p = (policy(torch.tensor([PROMPTS[0]])).logits[0, -1] / 0.7).softmax(0)
    found = torch.bincount(ids[:, -1], minlength=40) / draws
    # The expected total variation of n draws over K outcomes is below ½ √(K / n) = 0.022.
    assert (found - p).abs().sum() / 2 < 0.022
    assert (found - policy(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(0)).abs().sum() / 2 > 0.03


def test_sampling_with_a_cache_and_training_without_give_the_same_log_probabilities():
    sampling, policy = SamplingSettings(response_tokens=8, temperature=0.7), model(0)
    rollout = collected(sampling)
    assert sampling_gap(policy, rollout, sampling, 0) < 2e-5
    shifted = dataclasses.replace(rollout, log_probs=rollout.log_probs - 0.5 * rollout.response)
    assert sampling_gap(policy, shifted, sampling, 0) == pytest.approx(0.5, abs=1e-4)


def test_distinct_n_counts_n_grams_within_responses():
    rollout = collected(SamplingSettings(response_tokens=4), planted([5, 5, 5, 2], [5, 2], [6, 2], [2]))
    # 1-grams 5 5 5 2 | 5 2 | 6 2 | 2 and 2-grams 55 55 52 | 52 | 62
    assert distinct(rollout, 1) == pytest.approx(3 / 9)
    assert distinct(rollout, 2) == pytest.approx(3 / 5)
    assert distinct(rollout, 5) == 1.0
