"""The PPO stage on disk: exact resume, invariances, what it refuses, what it logs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tiny import SENTENCES, tiny_tokenizer  # noqa: E402

from alignment.checkpoint import finished  # noqa: E402
from alignment.loop import LoopSettings, SliceOverError  # noqa: E402
from alignment.lora import LoraSettings  # noqa: E402
from alignment.model import RewardModel, load_model, new_model, save_model, weights_sha256  # noqa: E402
from alignment.ppo_update import UpdateSettings  # noqa: E402
from alignment.preference_rows import DemonstrationRow  # noqa: E402
from alignment.rollout import SamplingSettings  # noqa: E402
from alignment.rows import prompt_ids  # noqa: E402
from alignment.stage import StageResult  # noqa: E402
from alignment.stages.ppo import KlSettings, Models, PpoSettings, Training, new_critic, ppo  # noqa: E402
from alignment.tokenizer import special_ids, train_tokenizer  # noqa: E402
from curation.errors import ConfigError, StageError  # noqa: E402

TOKENIZER = tiny_tokenizer()
IDS = special_ids(TOKENIZER)
PROMPTS = [sentence[: 12 + 3 * k] for k, sentence in enumerate(SENTENCES)]
DEMONSTRATIONS = [DemonstrationRow(PROMPTS[k], SENTENCES[-1 - k]) for k in range(5)]
LOGGED = {
    "reward", "score", "score_std", "kl", "kl_k2", "kl_k3", "rlhf_reward", "entropy", "value", "explained_variance",
    "length", "eos_rate", "kl_coefficient", "distinct_1", "distinct_2", "policy_loss", "value_loss", "clip_fraction",
    "value_clip_fraction", "approx_kl", "ratio", "gradient_norm", "value_gradient_norm", "learning_rate",
    "optimiser_steps", "episodes", "tokens", "wall_s", "step", "heldout_reward", "ptx_loss",
}  # fmt: skip


def new(seed: int, size: str = "160k") -> Any:
    return new_model(size, len(TOKENIZER), IDS, seed, context=96)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sft`, `reward` and `second`, two reward models."""
    root = tmp_path_factory.mktemp("made")
    save_model(new(1), TOKENIZER, root / "sft")
    for seed, name in ((2, "reward"), (3, "second")):
        model = RewardModel.from_causal(new(seed), seed)
        model.gain.fill_(2.0)
        model.bias.fill_(0.25)
        model.save(root / name, TOKENIZER)
    return root


def settings(updates: int = 3, **changes: Any) -> PpoSettings:
    loop = LoopSettings(
        learning_rate=1e-3, schedule="linear", warmup=0, final=0, beta2=0.999, eps=1e-5, weight_decay=0, log_every=1,
        precision="fp32", **changes.pop("loop", {}),
    )  # fmt: skip
    fields = {
        "sampling": SamplingSettings(response_tokens=8),
        "update": UpdateSettings(epochs=2, minibatches=2, ptx_coefficient=0.5, ptx_rows=3),
        "kl": KlSettings(control="adaptive", coefficient=0.15, target=0.01, horizon=50),
        **changes,
    }
    return PpoSettings(loop=loop, updates=updates, episodes=8, **fields)


def run(made: Path, folder: Path, given: PpoSettings, **changes: Any) -> StageResult:
    arguments = {"prompts": PROMPTS, "seed": 5, "ptx": DEMONSTRATIONS, "heldout": made / "second", **changes}
    return ppo(given, made / "sft", made / "reward", folder=folder, **arguments)


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "wall_s"} for row in rows]


def files(folder: Path) -> dict[str, bytes]:
    """What a stage leaves, without what says how long it took."""
    names = ("model.safetensors", "critic/model.safetensors", "critic/reward_head.safetensors", "fingerprint")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, Path]:
    folder = tmp_path_factory.mktemp("whole") / "ppo"
    return run(made, folder, settings()), folder


def test_a_stage_run_in_slices_ends_with_the_very_weights_of_one_that_was_not(made, whole, tmp_path):
    slices = 0
    while True:
        try:
            result = run(made, tmp_path / "ppo", settings(loop={"stop_after_s": 1e-9}))
            break
        except SliceOverError:
            slices += 1
            torch.manual_seed(slices)  # whatever else drew numbers in between
    assert slices == 2
    assert files(tmp_path / "ppo") == files(whole[1])
    assert metrics(tmp_path / "ppo") == metrics(whole[1])
    expected = whole[0]
    assert (result.weights_sha256, result.steps, result.tokens_seen, result.metrics, result.rows) == (
        expected.weights_sha256, expected.steps, expected.tokens_seen, expected.metrics, expected.rows
    )  # fmt: skip


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
import torch
torch.set_num_threads(1)
from pathlib import Path
import test_ppo
from alignment.stages import ppo as stage

class Dies(stage.Training):
    def update(self):
        if self.progress.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update()

stage.Training = Dies
test_ppo.run(Path({made!r}), Path({folder!r}), test_ppo.settings(loop={{"checkpoint_every_s": 0.0}}))
"""


def test_a_killed_stage_goes_on_and_ends_with_the_very_same_files(made, whole, tmp_path):
    here = Path(__file__).resolve()
    script = KILLED.format(path=[str(here.parent), str(here.parents[3])], made=str(made), folder=str(tmp_path / "ppo"))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr[-2000:]
    assert len(finished(tmp_path / "ppo/checkpoints")) == 2
    with (tmp_path / "ppo/metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "sco')  # what a killed run may leave
    run(made, tmp_path / "ppo", settings())
    assert files(tmp_path / "ppo") == files(whole[1])
    assert metrics(tmp_path / "ppo") == metrics(whole[1])
    assert not (tmp_path / "ppo/checkpoints").exists()


def test_equal_inputs_in_two_arms_give_equal_weights_and_another_seed_or_round_others(made, whole, tmp_path):
    again = run(made, tmp_path / "again", settings(), arm="other")
    assert (again.weights_sha256, again.arm) == (whole[0].weights_sha256, "other")
    others = {run(made, tmp_path / name, settings(1), **change).weights_sha256
              for name, change in (("seed", {"seed": 6}), ("round", {"round_number": 2}), ("first", {}))}  # fmt: skip
    assert len(others) == 3


def test_a_finished_stage_is_not_repeated_and_other_settings_are_refused(made, whole):
    before = (whole[1] / "model.safetensors").stat().st_mtime_ns
    assert run(made, whole[1], settings(loop={"stop_after_s": 1e-9})) == whole[0]
    assert (whole[1] / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="other-stage"):
        run(made, whole[1], settings(kl=KlSettings()))


def test_every_update_logs_what_a_reader_of_a_ppo_run_asks_for(whole):
    rows = [json.loads(line) for line in (whole[1] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == LOGGED | {"sampling_gap"}
    assert set(rows[1]) == set(rows[2]) == LOGGED
    first = rows[0]
    assert (first["kl"], first["kl_k3"], first["episodes"]) == (0.0, 0.0, 8)
    assert first["sampling_gap"] < 1e-4
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3])


def test_the_adaptive_coefficient_follows_the_measured_kl(whole):
    rows = metrics(whole[1])
    coefficient = 0.15
    for row in rows:
        assert row["kl_coefficient"] == pytest.approx(coefficient, rel=1e-9)
        coefficient *= 1 + min(max(row["kl"] / 0.01 - 1, -0.2), 0.2) * 8 / 50


def test_the_result_is_a_plain_model_directory_and_its_critic_goes_into_the_next_round(made, whole, tmp_path):
    result, folder = whole
    assert weights_sha256(load_model(folder)) == result.weights_sha256
    assert weights_sha256(load_model(made / "sft")) != result.weights_sha256
    assert result.rows == {"kept": 10, "ptx_kept": 5}
    following = ppo(
        settings(1, update=UpdateSettings(epochs=1)), folder, made / "reward", PROMPTS, tmp_path / "next", 5,
        reference=made / "sft", critic=folder / "critic", round_number=2,
    )  # fmt: skip
    first = metrics(tmp_path / "next")[0]
    assert first["kl_k3"] > 0  # the reference is not where the round began
    assert following.metrics["score"] == first["score"]


def test_a_critic_begins_with_the_normalised_reward_or_with_zero(made):
    scorer = RewardModel.load(made / "reward").eval()
    ids, mask = torch.tensor([[1, 9, 10, 11, 12]]), torch.ones(1, 5, dtype=torch.bool)
    with torch.no_grad():
        critic = new_critic(settings(), new(1), scorer, made / "reward").eval()
        torch.testing.assert_close(critic.per_token(ids, mask)[:, -1], scorer(ids, mask))
        policy = new(1)
        zero = new_critic(settings(critic="zero"), policy, scorer, made / "reward").eval()
        assert zero.per_token(ids, mask).abs().max() == 0
    assert zero.backbone is not policy.get_decoder()


# What is refused, skipped or ends a stage


def test_prompts_that_leave_no_room_are_skipped_and_counted_and_none_left_is_an_error(made, tmp_path):
    long = "q7#" * 60
    result = run(made, tmp_path / "some", settings(1), prompts=[*PROMPTS, long])
    assert result.rows == {"kept": 10, "skipped_long_prompt": 1, "ptx_kept": 5}
    with pytest.raises(ConfigError, match="none of 1 prompts has at most 88 tokens"):
        run(made, tmp_path / "none", settings(1), prompts=[long])


def test_a_reward_model_that_returns_nan_ends_the_stage(made, tmp_path):
    broken = RewardModel.load(made / "reward")
    broken.head.weight.data[0, 0] = float("nan")
    broken.save(tmp_path / "broken", TOKENIZER)
    with pytest.raises(StageError, match="the reward model returned nan for 8 of 8 episodes"):
        ppo(
            settings(1, critic="zero"),
            made / "sft",
            tmp_path / "broken",
            PROMPTS,
            tmp_path / "ppo",
            0,
            ptx=DEMONSTRATIONS,
        )


def test_a_reward_model_with_another_tokenizer_is_refused(made, tmp_path):
    other = train_tokenizer(SENTENCES, 300)
    RewardModel.from_causal(new(2)).save(tmp_path / "other", other)
    with pytest.raises(ConfigError, match="other-tokenizer"):
        ppo(settings(1), made / "sft", tmp_path / "other", PROMPTS, tmp_path / "ppo", 0, ptx=DEMONSTRATIONS)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"update": UpdateSettings(minibatches=9)}, "few-episodes"),
        ({"update": UpdateSettings(ptx_coefficient=1.0)}, "no-ptx"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_runs(made, tmp_path, changes, code):
    with pytest.raises(ConfigError, match=code):
        run(made, tmp_path / "ppo", settings(1, **changes), ptx=())
    assert not (tmp_path / "ppo").exists()


def test_a_stage_ends_when_its_kl_budget_is_spent_and_says_so(made, tmp_path):
    kl = KlSettings(coefficient=0.0, budget=1e-4)
    result = run(made, tmp_path / "ppo", settings(50, kl=kl, loop={}))
    assert result.metrics["kl_budget_spent"] == 1.0
    assert 0 < result.steps < 50
    assert all(row["kl"] <= 1e-4 for row in metrics(tmp_path / "ppo"))


def test_lora_trains_an_adapter_and_writes_a_plain_model(made, tmp_path):
    pytest.importorskip("peft")
    result = run(made, tmp_path / "ppo", settings(2, lora=LoraSettings(rank=2)))
    model = load_model(tmp_path / "ppo")
    assert weights_sha256(model) == result.weights_sha256
    before = load_model(made / "sft").state_dict()
    changed = {
        name.rsplit(".", 2)[-2] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert (tmp_path / "ppo/adapter/adapter_config.json").is_file()


def test_a_model_with_dropout_is_trained_without_it(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(TOKENIZER), n_positions=96, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.5)
    policy, reference = GPT2LMHeadModel(config), GPT2LMHeadModel(config)
    models = Models(policy, reference, RewardModel.from_causal(new(4)), RewardModel.from_causal(new(2)))
    prompts = [prompt_ids(TOKENIZER, prompt) for prompt in PROMPTS]
    plain = settings(2, update=UpdateSettings(epochs=2))
    progress = Training(plain, models, prompts, IDS, tmp_path, 0).run()
    assert progress.means["ratio"] == pytest.approx(1, abs=0.05)
