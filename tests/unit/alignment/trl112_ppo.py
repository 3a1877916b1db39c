"""Run as a script with TRL 1.12.0 first on the path: one PPO update of its `PPOTrainer` on planted rollouts.

    python trl112_ppo.py PROBLEM RESULT

PROBLEM holds `policy/` and `reference/` (model directories) and `planted.pt`: `critic` and `reward` (state dicts of
`alignment.model.RewardModel`), `prompts` and `responses` (lists of ids, padding after the end of text), `pad`, `eos`,
`settings` (fields of `PPOConfig`). RESULT gets a `torch.save` of the updated `policy` and `critic` and what was logged.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}

import torch
from datasets import Dataset
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


def scalar_model(config: Any, state: dict[str, torch.Tensor]) -> Any:
    """A sequence classifier with the weights of a `RewardModel`: TRL reads its `model` and `score`."""
    model = LlamaForSequenceClassification(LlamaConfig(**{**config.to_dict(), "num_labels": 1}))
    prefix = "backbone."
    model.model.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    model.score = nn.Linear(config.hidden_size, 1)
    model.score.load_state_dict({"weight": state["head.weight"], "bias": state["head.bias"]})
    return model


def main(problem: Path, result: Path) -> None:
    torch.set_num_threads(1)
    planted = torch.load(problem / "planted.pt", weights_only=True)
    policy = AutoModelForCausalLM.from_pretrained(problem / "policy", dtype=torch.float32)
    reference = AutoModelForCausalLM.from_pretrained(problem / "reference", dtype=torch.float32)
    critic, reward = (scalar_model(policy.config, planted[name]) for name in ("critic", "reward"))
    pad, eos = planted["pad"], planted["eos"]
    answers = {tuple(p): r for p, r in zip(planted["prompts"], planted["responses"], strict=True)}
    config = PPOConfig(
        output_dir=str(result.parent / "trainer"), report_to=[], bf16=False, gradient_checkpointing=False,
        num_sample_generations=0, save_strategy="no", use_cpu=True, disable_tqdm=True, stop_token="eos",
        per_device_train_batch_size=len(answers), total_episodes=len(answers), gradient_accumulation_steps=1,
        num_mini_batches=1, **planted["settings"],
    )  # fmt: skip

    def batch_generation(model: Any, queries: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        responses = torch.tensor([answers[tuple(t for t in row if t != pad)] for row in queries.tolist()])
        ids = torch.cat([queries, responses], 1)
        with torch.no_grad():
            logits = ppo_trainer.forward(model, ids, pad).logits[:, queries.shape[1] - 1 : -1]
        return ids, logits / (config.temperature + 1e-7)

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        return {"input_ids": torch.tensor([[pad] * (width - len(r["input_ids"])) + r["input_ids"] for r in rows])}

    ppo_trainer.batch_generation = batch_generation
    tokenizer: Any = SimpleNamespace(pad_token_id=pad, eos_token_id=eos)  # all the loop asks a tokenizer for
    data = Dataset.from_list([{"input_ids": prompt} for prompt in planted["prompts"]])
    trainer = PPOTrainer(config, tokenizer, policy, reference, reward, data, critic, data_collator=collate)
    trainer.train()
    weights = {"policy": policy.state_dict(), "backbone": critic.model.state_dict(), "head": critic.score.state_dict()}
    torch.save({**weights, "logged": trainer.state.log_history[0]}, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
