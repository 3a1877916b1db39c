"""PPO on a problem whose best policy is known, through the stage's own sampling, rollouts and updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bandit import Bandit  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from alignment.model import RewardModel, last_token  # noqa: E402
from alignment.ppo_update import UpdateSettings  # noqa: E402
from alignment.rollout import SamplingSettings  # noqa: E402
from alignment.stages.ppo import KlSettings, Models, PpoSettings, Training  # noqa: E402

ACTIONS = 8
PROMPTS = [[3], [4, 5]]  # of two lengths, so that sampling pads


def model(seed: int) -> Any:
    """A Llama of 8 tokens with a distribution far from uniform after each prompt."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=ACTIONS, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.25,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def log_probabilities(policy: Any) -> Any:
    """(prompts, actions)."""
    with torch.no_grad():
        return torch.stack([policy(torch.tensor([prompt])).logits[0, -1].log_softmax(0) for prompt in PROMPTS])


def trained(bandit: Bandit, folder: Path, updates: int, temperature: float) -> Any:
    def reward(ids: Any, mask: Any) -> Any:
        prompt = (ids[:, 0] == PROMPTS[1][0]).long()
        return bandit.rewards[prompt, ids.gather(1, last_token(mask).unsqueeze(1)).squeeze(1)]

    settings = PpoSettings(
        updates=updates,
        episodes=512,
        critic_learning_rate=1e-2,
        sampling=SamplingSettings(response_tokens=1, temperature=temperature, missing_eos="keep", rows_per_forward=512),
        update=UpdateSettings(epochs=2, rows_per_micro=512, value_clip=10.0, value_coefficient=1.0),
        kl=KlSettings(coefficient=bandit.beta),
    )
    loop = settings.loop.model_copy(update={"learning_rate": 3e-3, "precision": "fp32"})
    models = Models(model(0), model(0), RewardModel.from_causal(model(1)), reward)
    training = Training(
        settings.model_copy(update={"loop": loop}), models, PROMPTS, {"pad": 0, "bos": 1, "eos": 2}, folder, seed=0
    )
    training.run()
    return models.policy


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_ppo_reaches_the_reference_tilted_by_the_reward(tmp_path, temperature):
    bandit = Bandit(actions=ACTIONS, prompts=len(PROMPTS), beta=0.5)
    before = model(0)
    # With a temperature the policy is the tempered one, in sampling and in the KL penalty alike.
    bandit.reference = (log_probabilities(before) / temperature).log_softmax(1)
    policy = trained(bandit, tmp_path, 60, temperature)
    assert bandit.total_variation(bandit.reference.exp()) > 0.3
    assert bandit.total_variation((log_probabilities(policy) / temperature).softmax(1)) < 0.03
