"""DPO reaches the policy that is known to be best: sign, β and reference in one test."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bandit import Bandit  # noqa: E402

from alignment.loop import LoopSettings, train  # noqa: E402
from alignment.stages.dpo import DpoObjective, DpoSettings  # noqa: E402


def test_the_bandits_best_policy_is_the_one_of_the_definition() -> None:
    """No policy has a higher E[r] − β KL(π ‖ π_ref) than `optimum`, by gradient ascent from π_ref."""
    bandit = Bandit(prompts=2, beta=0.7)
    logits = bandit.reference.double().clone().requires_grad_()

    def value(log_p: torch.Tensor) -> torch.Tensor:
        return (log_p.exp() * (bandit.rewards - bandit.beta * (log_p - bandit.reference))).sum(1)

    ascent = torch.optim.Adam([logits], lr=0.1)
    for _ in range(500):
        ascent.zero_grad()
        (-value(logits.log_softmax(1)).sum()).backward()
        ascent.step()
    found = logits.detach().softmax(1)
    assert bandit.total_variation(found.float()) < 1e-4
    assert bandit.total_variation(bandit.policy()) > 0.3
    best = value(bandit.optimum().double().log())
    # The value of the best policy is β log Z.
    partition = (bandit.reference + bandit.rewards / bandit.beta).exp().sum(1)
    torch.testing.assert_close(best, (bandit.beta * partition.log()).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_dpo_on_bradley_terry_pairs_reaches_the_best_policy(tmp_path: Path, beta: float) -> None:
    bandit = Bandit(beta=beta)
    sampled = bandit.pairs(20_000)
    pairs = [(bandit.example(x, w), bandit.example(x, b)) for x, w, b in sampled]
    reference = torch.stack([bandit.reference[x, [w, b]] for x, w, b in sampled])
    loop = LoopSettings(
        precision="fp32", learning_rate=0.2, schedule="linear", warmup=0.0, final=0.0, beta2=0.999, weight_decay=0.0
    )
    settings = DpoSettings(loop=loop, beta=beta, batch=2000, micro=2000, epochs=6)
    policy = bandit.policy()
    assert bandit.total_variation(policy) > 0.4
    train(policy, DpoObjective(settings, pairs, reference, 0, seed=0, same=True), loop, tmp_path, seed=0)
    assert bandit.total_variation(policy) < 0.03
