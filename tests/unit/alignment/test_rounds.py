"""Rounds of PPO with fresh feedback: what they leave on disk, when they end, and that nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tiny import SENTENCES, tiny_tokenizer  # noqa: E402

from alignment import rounds as module  # noqa: E402
from alignment.annotators import POOLS, Pool  # noqa: E402
from alignment.loop import LoopSettings, SliceOverError  # noqa: E402
from alignment.model import RewardModel, load_model, new_model, save_model, weights_sha256  # noqa: E402
from alignment.policy_report import PolicyReport, diversity  # noqa: E402
from alignment.ppo_inputs import shared_reference, split_prompts  # noqa: E402
from alignment.ppo_update import UpdateSettings  # noqa: E402
from alignment.preference_rows import DemonstrationRow, PreferenceRow, Prompt  # noqa: E402
from alignment.preferences import read_comparisons  # noqa: E402
from alignment.reward_scores import example_rewards  # noqa: E402
from alignment.rollout import SamplingSettings  # noqa: E402
from alignment.rounds import RoundsResult, RoundsSettings, data_halves, rounds, stop_reason  # noqa: E402
from alignment.rows import encode  # noqa: E402
from alignment.stages.ppo import PpoSettings  # noqa: E402
from alignment.stages.reward import RewardSettings  # noqa: E402
from alignment.tokenizer import special_ids  # noqa: E402
from curation.errors import ConfigError  # noqa: E402

TOKENIZER = tiny_tokenizer()
PROMPTS = [" ".join(sentence.split()[k : k + 4]) for sentence in SENTENCES for k in range(4)]
ROWS = [PreferenceRow(PROMPTS[k], SENTENCES[k % 10], SENTENCES[(k + 3) % 10][:20]) for k in range(20)]
REFERENCE = [DemonstrationRow(PROMPTS[k], SENTENCES[k % 10]) for k in range(10)]
START = PolicyReport(10, 0.0, 0.0, 0.0, 0.0, 5.0, 20.0, 0.95, 0.8, (0.0,) * 10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    for seed, name in ((1, "sft"), (2, "reward"), (3, "second")):
        model = new_model("160k", len(TOKENIZER), special_ids(TOKENIZER), seed, context=128)
        if name == "sft":
            save_model(model, TOKENIZER, root / name)
        else:
            RewardModel.from_causal(model, seed).save(root / name, TOKENIZER)
    return root


def settings(**changes: Any) -> RoundsSettings:
    loop = LoopSettings(learning_rate=1e-3, warmup=0, log_every=1, precision="fp32", **changes.pop("loop", {}))
    stage = PpoSettings(
        loop=loop,
        updates=2,
        episodes=8,
        sampling=SamplingSettings(response_tokens=12, missing_eos="keep"),
        update=UpdateSettings(epochs=2),
    )
    refit = RewardSettings(loop=LoopSettings(learning_rate=1e-3, precision="fp32"), batch=8)
    fields = {
        "rounds": 3, "feedback_prompts": 6, "feedback_responses": 3, "evaluation_prompts": 6, "eos_floor": 0.0,
        "patience": 9, **changes,
    }  # fmt: skip
    return RoundsSettings(ppo=stage, refit=refit, **fields)


class Asked:
    """Annotators who remember what they were asked."""

    def __init__(self) -> None:
        self.pool = Pool(POOLS["brief"], seed=0)
        self.prompts: list[Prompt] = []

    def __call__(self, prompt: Prompt, responses: Sequence[str]) -> Any:
        self.prompts.append(prompt)
        return self.pool.rank(prompt, responses)


def run(made: Path, folder: Path, given: RoundsSettings, annotate: Any = None, **changes: Any) -> RoundsResult:
    arguments = {"prompts": PROMPTS, "seed": 5, "rows": ROWS, "reference": REFERENCE, **changes}
    return rounds(
        given, made / "sft", made / "reward", made / "second", folder=folder, annotate=annotate, annotators="brief",
        **arguments,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RoundsResult, Path, Asked]:
    folder, asked = tmp_path_factory.mktemp("whole") / "rounds", Asked()
    return run(made, folder, settings(), asked), folder, asked


def test_each_round_refits_the_reward_model_on_all_rows_and_goes_on_from_the_last_policy(made, whole):
    result, folder, asked = whole
    assert [one.number for one in result.rounds] == [0, 1, 2, 3]
    assert result.stop == "rounds"
    assert sorted(str(path.relative_to(folder)) for path in folder.glob("round-*/*/stage.json")) == [
        "round-1/ppo/stage.json", "round-2/ppo/stage.json", "round-2/reward/stage.json", "round-3/ppo/stage.json",
        "round-3/reward/stage.json",
    ]  # fmt: skip
    feedback = [read_comparisons(folder / f"round-{number}/feedback.jsonl.zst") for number in (2, 3)]
    assert [row.prompt for rows in feedback for row in rows] == asked.prompts
    assert len(asked.prompts) == 12
    learnt = [read_comparisons(folder / f"round-{number}/reward/rows.jsonl.zst") for number in (2, 3)]
    assert learnt == [[*ROWS, *feedback[0]], [*ROWS, *feedback[0], *feedback[1]]]
    first = {
        number: json.loads((folder / f"round-{number}/ppo/metrics.jsonl").read_text().splitlines()[0])
        for number in (1, 2, 3)
    }
    assert first[1]["kl_k3"] == 0  # the first round begins where the penalty pulls to, the others further out
    assert first[2]["kl_k3"] > 0
    assert first[3]["kl_k3"] > 0


def test_every_refit_is_normalised_on_the_same_reference(whole):
    for number in (2, 3):
        model = RewardModel.load(whole[1] / f"round-{number}/reward")
        examples = [encode(TOKENIZER, row.prompt, row.response, 128)[0] for row in REFERENCE]
        rewards = example_rewards(model, examples, TOKENIZER.pad_token_id)
        assert rewards.mean().item() == pytest.approx(0, abs=1e-5)
        assert rewards.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_without_reference_rows_refits_are_normalised_on_those_of_the_first_rows(made, tmp_path):
    run(made, tmp_path, settings(rounds=3, feedback_prompts=3), Asked(), reference=None)
    shown = shared_reference(ROWS, 512)
    assert len(shown) == 40
    assert shared_reference(ROWS[::-1], 7) == shown[:7]
    for number in (2, 3):
        model = RewardModel.load(tmp_path / f"round-{number}/reward")
        examples = [encode(TOKENIZER, row.prompt, row.response, 128)[0] for row in shown]
        assert example_rewards(model, examples, TOKENIZER.pad_token_id).mean().item() == pytest.approx(0, abs=1e-5)


def test_the_result_is_the_best_rounds_model_with_its_gain_over_the_start(made, whole):
    result, folder, _ = whole
    best = max(result.rounds, key=lambda one: one.report.heldout_reward)
    assert result.best == best.number
    assert weights_sha256(load_model(folder)) == weights_sha256(load_model(best.policy)) == result.stage.weights_sha256
    gain = best.report.heldout_reward - result.rounds[0].report.heldout_reward
    assert result.stage.metrics["heldout_gain"] == pytest.approx(gain, abs=1e-6)
    assert result.stage.metrics["best_round"] == best.number
    assert result.stage.steps == 6
    assert result.rounds[0].report.kl == 0
    curve = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    assert [point["value"] for point in curve if point["metric"] == "heldout_reward"] == [
        one.report.heldout_reward for one in result.rounds
    ]


def test_a_call_cut_into_slices_ends_as_one_that_was_not_and_asks_nobody_twice(made, whole, tmp_path):
    asked, slices = Asked(), 0
    while True:
        try:
            found = run(made, tmp_path / "rounds", settings(loop={"stop_after_s": 0.4}), asked)
            break
        except SliceOverError:
            slices += 1
    assert slices >= 2
    assert asked.prompts == whole[2].prompts
    assert found.stage.weights_sha256 == whole[0].stage.weights_sha256
    assert [one.report for one in found.rounds] == [one.report for one in whole[0].rounds]
    assert (found.stop, found.best) == (whole[0].stop, whole[0].best)


def test_finished_rounds_are_not_repeated_and_other_annotators_are_another_run(made, whole):
    result, folder, asked = whole
    again = run(made, folder, settings(), asked)
    assert again == result
    assert len(asked.prompts) == 12
    with pytest.raises(ConfigError, match="other-stage"):
        run(made, folder, settings(), None)


def test_without_annotators_the_reward_model_stays_and_the_critic_is_carried_on(made, tmp_path):
    result = run(made, tmp_path, settings(rounds=2))
    assert {one.reward_model for one in result.rounds} == {str(made / "reward")}
    assert not list(tmp_path.glob("round-*/reward"))
    last, following = (
        [json.loads(line) for line in (tmp_path / f"round-{number}/ppo/metrics.jsonl").read_text().splitlines()]
        for number in (1, 2)
    )
    # The critic knows the reward by now: a new one would begin as it did in round 1.
    assert abs(following[0]["value"] - last[0]["value"]) > abs(following[0]["value"] - last[-1]["value"])


def test_a_model_whose_answers_do_not_end_is_refused_before_any_round(made, tmp_path):
    with pytest.raises(ConfigError, match="no-end-learnt"):
        run(made, tmp_path, settings(eos_floor=0.8))
    assert not (tmp_path / "round-1").exists()


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([{}], None),
        ([{"eos_rate": 0.79}], "eos_collapse"),
        ([{"diversity": 0.39}], "diversity_collapse"),
        ([{"kl": 10.1}], "kl_budget"),
        ([{"heldout_reward": 1.0}, {"heldout_reward": 2.0}, {"heldout_reward": 3.0}], "rounds"),
        ([{"heldout_reward": 1.0}, {"heldout_reward": 0.9}], None),
        ([{"heldout_reward": -1.0}, {"heldout_reward": -0.5}], "converged"),
        ([{"heldout_reward": 1.0}, {"heldout_reward": 1.0}, {"heldout_reward": 0.9}], "converged"),
        ([{"heldout_reward": 1.0}, {"heldout_reward": 0.5}, {"heldout_reward": 1.01}], "rounds"),
    ],
)
def test_rounds_end_for_a_reason_that_is_named(reports, expected):
    given = RoundsSettings(rounds=3, kl_budget=10.0, diversity_floor=0.5)
    rising = {"heldout_reward": 0.5}
    assert stop_reason(given, [START, *(replace(START, **{**rising, **one}) for one in reports)]) == expected


@pytest.mark.parametrize(
    ("change", "stop"),
    [({"eos_rate": 0.1}, "eos_collapse"), ({"diversity": 0.1}, "diversity_collapse"), ({"kl": 99.0}, "kl_budget")],
)
def test_a_round_that_collapsed_is_not_the_result_however_high_its_reward(made, tmp_path, monkeypatch, change, stop):
    measured = iter([START, replace(START, heldout_reward=0.1), replace(START, heldout_reward=9.0, **change)])
    monkeypatch.setattr(module, "report", lambda *_, **__: next(measured))
    given = settings(eos_floor=0.8, kl_budget=10.0, evaluation_prompts=10)
    result = run(made, tmp_path, given, evaluation_prompts=[f"{prompt}?" for prompt in PROMPTS[:10]])
    assert (result.stop, result.best, len(result.rounds)) == (stop, 1, 3)
    assert result.stage.weights_sha256 == weights_sha256(load_model(tmp_path / "round-1/ppo"))


def test_prompts_to_measure_on_are_never_trained_on():
    train, held = split_prompts(PROMPTS, None, 0.3)
    assert sorted([*train, *held]) == sorted(PROMPTS)
    assert 4 <= len(held) <= 20
    assert split_prompts(PROMPTS[:4], [PROMPTS[1]], 0.3) == ([PROMPTS[0], *PROMPTS[2:4]], [PROMPTS[1]])
    with pytest.raises(ConfigError, match="no-prompts"):
        split_prompts(PROMPTS[:1], [PROMPTS[0]], 0.3)


def test_the_halves_of_reward_and_held_out_reward_model_share_no_prompt():
    first, second = data_halves([*ROWS, *ROWS])
    assert len(first) + len(second) == 40
    assert min(len(first), len(second)) >= 8
    assert not {row.prompt for row in first} & {row.prompt for row in second}


def test_diversity_is_the_mean_over_all_draws_and_does_not_fall_with_length_alone():
    responses = [[1, 2, 3], [1, 2, 2], [1, 2, 3, 4]]  # 2-grams 12 23 | 12 22 | 12 23 34
    grams = ["12", "23", "12", "22", "12", "23", "34"]
    draws = [len(set(drawn)) / 3 for drawn in combinations(grams, 3)]
    assert diversity(responses) == pytest.approx(sum(draws) / len(draws), abs=1e-12)
    assert diversity([[5, 6]] * 8) == pytest.approx(1 / 8)
    assert diversity([[5], [6]]) == 0
    draw = torch.Generator().manual_seed(0)
    short, long = (torch.randint(50, (200, length), generator=draw).tolist() for length in (10, 40))
    assert diversity(short) == pytest.approx(diversity(long), abs=0.01)
