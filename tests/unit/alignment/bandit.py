"""A problem whose answer is known: one prompt token, one response token, a reward for each response.

The best policy under `E[r] − β KL(π ‖ π_ref)` is `π_ref · exp(r / β) / Z` (Ziegler 2019, arXiv 1909.08593, eq. 2 ff.).
A stage that does not get there has a wrong sign, a wrong β or a wrong reference.

    bandit = Bandit()
    policy = bandit.policy()           # starts as π_ref
    ...train it...
    assert bandit.total_variation(policy) < 0.03
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alignment.rows import Example


class TabularPolicy(nn.Module):
    """A causal language model whose next token hangs on the last one alone: a table of logits.

    Called as a Hugging Face model is: `forward(input_ids, attention_mask, position_ids)` → an object with `.logits`
    (rows, tokens, actions). The prompts' ids follow those of the actions.
    """

    def __init__(self, logits: Tensor) -> None:
        """Start from `logits` (prompts, actions)."""
        super().__init__()
        prompts, actions = logits.shape
        table = torch.zeros(actions + prompts, actions)
        table[actions:] = logits
        self.table = nn.Embedding.from_pretrained(table, freeze=False)
        self.config = SimpleNamespace(vocab_size=actions + prompts, pad_token_id=0, hidden_size=actions)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None, **_: Any
    ) -> Any:
        return SimpleNamespace(logits=self.table(input_ids))


@dataclass
class Bandit:
    """`prompts` problems at once, each with `actions` responses; the prompt's id is `actions + its number`."""

    actions: int = 8
    prompts: int = 1
    beta: float = 0.5
    seed: int = 0
    rewards: Tensor = field(init=False)  # (prompts, actions)
    reference: Tensor = field(init=False)  # (prompts, actions) log π_ref

    def __post_init__(self) -> None:
        draw = torch.Generator().manual_seed(self.seed)
        self.rewards = torch.randn(self.prompts, self.actions, generator=draw)
        self.reference = torch.randn(self.prompts, self.actions, generator=draw).log_softmax(1)

    def policy(self) -> TabularPolicy:
        """A new policy, equal to π_ref."""
        return TabularPolicy(self.reference)

    def optimum(self) -> Tensor:
        """(prompts, actions) π* = π_ref · exp(r / β) / Z."""
        return (self.reference + self.rewards / self.beta).softmax(1)

    def probabilities(self, policy: Any) -> Tensor:
        """(prompts, actions) of any model of this vocabulary, or of a table of probabilities."""
        if isinstance(policy, Tensor):
            return policy
        ids = torch.arange(self.actions, self.actions + self.prompts).unsqueeze(1)
        with torch.no_grad():
            return torch.as_tensor(policy(input_ids=ids).logits[:, -1, : self.actions].float().softmax(1))

    def total_variation(self, policy: Any) -> float:
        """½ Σ |π − π*|, of the worst prompt."""
        return float((self.probabilities(policy) - self.optimum()).abs().sum(1).max() / 2)

    def example(self, prompt: int, action: int) -> Example:
        """One response as ids."""
        return Example((self.actions + prompt,), (action,))

    def pairs(self, number: int, seed: int = 0) -> list[tuple[int, int, int]]:
        """(prompt, chosen, rejected): two different responses drawn at random, judged by Bradley–Terry on r."""
        draw = np.random.default_rng(seed)
        prompt = draw.integers(self.prompts, size=number)
        first = draw.integers(self.actions, size=number)
        second = (first + 1 + draw.integers(self.actions - 1, size=number)) % self.actions
        r = self.rewards.double().numpy()
        wins = draw.random(number) < 1 / (1 + np.exp(r[prompt, second] - r[prompt, first]))
        chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
        return [(int(x), int(w), int(b)) for x, w, b in zip(prompt, chosen, rejected, strict=True)]
