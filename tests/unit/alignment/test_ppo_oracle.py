"""One PPO update against the last published `PPOTrainer` of TRL (1.12.0; removed in 1.13), on the same rollouts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from alignment.loop import LoopSettings, Optimiser  # noqa: E402
from alignment.model import RewardModel, new_model, save_model  # noqa: E402
from alignment.ppo_update import CriticObjective, PolicyObjective, UpdateSettings, judge, summary, update  # noqa: E402
from alignment.rollout import SamplingSettings, collect  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
TRL112 = Path(os.environ.get("HEADWATER_TRL112", ROOT / ".venv-trl112"))
IDS = {"pad": 0, "bos": 1, "eos": 2}
VOCABULARY, WIDTH = 120, 9
EPISODES = 16
TEMPERATURE, RATE, EPOCHS = 0.7, 1e-3, 2


def model(seed: int, scale: float = 1.0) -> Any:
    made = new_model("160k", VOCABULARY, IDS, seed, context=64)
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim == 2:
                p.mul_(scale)  # logits that differ between tokens, so that ratios and KL are not all but equal
    return made


def planted() -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of 2 to 6 tokens; responses that end after 1 … 9 tokens, some without an end of text."""
    draw = torch.Generator().manual_seed(7)

    def tokens(n: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (n,), generator=draw).tolist()

    prompts, responses = [], []
    for row in range(EPISODES):
        prompts.append([1, *tokens(1 + row % 5)])
        length = 1 + row % 12
        response = tokens(WIDTH) if length > WIDTH else [*tokens(length - 1), 2]
        responses.append([*response, *[0] * (WIDTH - len(response))])
    return prompts, responses


def left_padded(prompts: list[list[int]]) -> Any:
    width = max(map(len, prompts))
    return torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])


def models() -> tuple[Any, Any, RewardModel, RewardModel]:
    """Policy, reference, critic, reward model."""
    critic, reward = (RewardModel.from_causal(model(seed), seed) for seed in (2, 3))
    return model(0, 3.0), model(1, 3.0), critic, reward


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What TRL's trainer made of the planted rollouts."""
    if not (TRL112 / "trl/experimental/ppo").is_dir():
        pytest.skip("TRL 1.12.0 is neither at HEADWATER_TRL112 nor in .venv-trl112/: make trl112")
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("trl112")
    policy, reference, critic, reward = models()
    for made, name in ((policy, "policy"), (reference, "reference")):
        save_model(made, None, folder / name)
    settings = {
        "temperature": TEMPERATURE, "learning_rate": RATE, "num_ppo_epochs": EPOCHS, "response_length": WIDTH,
        "missing_eos_penalty": 1.0, "kl_coef": 0.05, "adam_epsilon": 1e-5, "max_grad_norm": 0.0,
    }  # fmt: skip
    prompts, responses = planted()
    problem = {
        "critic": critic.state_dict(), "reward": reward.state_dict(), "prompts": prompts, "responses": responses,
        "pad": 0, "eos": 2, "settings": settings,
    }  # fmt: skip
    torch.save(problem, folder / "planted.pt")
    return run_trl(folder)


@pytest.mark.parametrize("rows_per_micro", [EPISODES, 5])
def test_one_update_leaves_the_weights_that_trl_1_12_leaves(theirs, rows_per_micro):
    prompts, responses = planted()
    policy, reference, critic, reward = models()
    before = {k: v.clone() for k, v in {**policy.state_dict(), **critic.state_dict()}.items()}
    sampling = SamplingSettings(
        response_tokens=WIDTH, temperature=TEMPERATURE, missing_eos="subtract", missing_eos_value=1.0
    )
    tokens = torch.tensor(responses)
    ids, response = torch.cat([left_padded(prompts), tokens], 1), tokens != 0
    rollout = collect(policy, reference, critic, reward, prompts, sampling, IDS, 0, drawn=(ids, response))
    shape = UpdateSettings(epochs=EPOCHS, rows_per_micro=rows_per_micro, score_at="after_eos", bessel=True)
    episodes = judge(rollout, shape, coefficient=0.05)
    loop = LoopSettings(
        learning_rate=RATE, schedule="constant", warmup=0, beta2=0.999, eps=1e-5, weight_decay=0, clip=0,
        precision="fp32",
    )  # fmt: skip
    actor = PolicyObjective(episodes, shape, TEMPERATURE, (), 0)
    values = CriticObjective(episodes, shape, (), 0)
    logged = update(Optimiser(policy, loop, 1), Optimiser(critic, loop, 1), actor, values, None, 0)

    ours = {**policy.state_dict(), **critic.state_dict()}
    expected = {
        **theirs["policy"],
        **{f"backbone.{name}": value for name, value in theirs["backbone"].items()},
        **{f"head.{name}": value for name, value in theirs["head"].items()},
    }
    assert set(expected) == set(ours) - {"gain", "bias"}
    off = torch.cat([(ours[name] - value).abs().flatten() for name, value in expected.items()])
    moved = torch.cat([(ours[name] - before[name]).abs().flatten() for name in expected])
    assert moved.max() > 1e-3  # the update is a hundred times what may differ
    assert off.max() < 1e-4
    assert (off < 1e-5).float().mean() > 0.999
    said = theirs["logged"]
    numbers = {**summary(episodes), **logged}
    pairs = {
        "objective/kl": "kl", "objective/scores": "score", "objective/rlhf_reward": "rlhf_reward",
        "loss/policy_avg": "policy_loss", "loss/value_avg": "value_loss", "policy/clipfrac_avg": "clip_fraction",
        "val/clipfrac_avg": "value_clip_fraction",
    }  # fmt: skip
    assert {name: numbers[own] for name, own in pairs.items()} == pytest.approx(
        {name: said[name] for name in pairs}, rel=1e-4, abs=1e-5
    )


def run_trl(folder: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("trl112_ppo.py")
    environment = {**os.environ, "PYTHONPATH": str(TRL112), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder), str(folder / "theirs.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "theirs.pt", weights_only=True)
