"""One PPO update in memory: its parts may be cut and turned as one likes; it notices what cannot be right."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tiny import SENTENCES, tiny_tokenizer  # noqa: E402

from alignment.loop import LoopSettings, Optimiser, accumulate  # noqa: E402
from alignment.model import RewardModel, new_model, weights_sha256  # noqa: E402
from alignment.ppo_update import (  # noqa: E402
    CriticObjective,
    Episodes,
    PolicyObjective,
    PtxObjective,
    UpdateSettings,
    judge,
    update,
)
from alignment.rollout import SamplingSettings, collect  # noqa: E402
from alignment.rows import Example, prompt_ids  # noqa: E402
from alignment.tokenizer import special_ids  # noqa: E402
from curation.errors import StageError  # noqa: E402

TOKENIZER = tiny_tokenizer()
IDS = special_ids(TOKENIZER)
CPU = torch.device("cpu")
PROMPTS = [sentence[: 12 + 3 * k] for k, sentence in enumerate(SENTENCES)]


def new(seed: int) -> Any:
    return new_model("160k", len(TOKENIZER), IDS, seed, context=96)


def episodes(rows_per_forward: int = 64, **changes: Any) -> Episodes:
    prompts = [prompt_ids(TOKENIZER, prompt) for prompt in PROMPTS[:8]]
    sampling = SamplingSettings(response_tokens=8, rows_per_forward=rows_per_forward)
    critic, reward = (RewardModel.from_causal(new(seed), seed).eval() for seed in (4, 2))
    rollout = collect(new(1).eval(), new(7).eval(), critic, reward, prompts, sampling, IDS, 3)
    return judge(rollout, UpdateSettings(**changes), 0.05)


def gradients(given: Episodes, **changes: Any) -> dict[str, Any]:
    """Of policy and critic after one minibatch of all rows."""
    shape = UpdateSettings(entropy_coefficient=0.01, **changes)
    found = {}
    loop = LoopSettings(precision="fp32")
    # The policy is not the one that sampled, else all ratios are 1 and no token is clipped.
    for name, model, objective in (
        ("policy", new(8), PolicyObjective(given, shape, 1.0, (), 0)),
        ("critic", RewardModel.from_causal(new(9), 9), CriticObjective(given, shape, (), 0)),
    ):
        found[f"{name} loss"] = torch.tensor(accumulate(objective, model, objective.batch(0), loop, CPU)["loss"])
        found |= {f"{name} {key}": p.grad for key, p in model.named_parameters() if p.grad is not None}
    return found


@pytest.mark.parametrize("rows_per_micro", [4, 2, 3, 1])
def test_one_batch_of_8_and_its_parts_have_the_same_loss_and_gradients(rows_per_micro):
    given = episodes()
    expected, found = gradients(given), gradients(given, rows_per_micro=rows_per_micro)
    assert set(expected) == set(found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0, msg=name)


def test_the_order_of_rows_and_the_size_of_forward_passes_do_not_matter():
    given = episodes()
    apart = episodes(rows_per_forward=3)
    for name in ("rewards", "advantages", "returns"):
        torch.testing.assert_close(getattr(apart, name), getattr(given, name), atol=1e-5, rtol=0)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    turned = Episodes(
        type(given.rollout)(**given.rollout.rows(order)), *(
            getattr(given, name)[order] for name in ("rewards", "advantages", "returns", "value_mask")
        )
    )  # fmt: skip
    expected = gradients(given)
    for name, value in gradients(turned).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0, msg=name)


def test_minibatches_share_out_all_episodes_once_an_epoch_and_each_epoch_anew():
    given = episodes()
    objective = PolicyObjective(given, UpdateSettings(epochs=3, minibatches=3, rows_per_micro=2), 1.0, (1, 4), 0)
    assert objective.steps == 9
    epochs = []
    for epoch in range(3):
        parts = [objective.batch(3 * epoch + k) for k in range(3)]
        sizes = [[len(micro.tensors["ids"]) for micro in part] for part in parts]
        assert sizes == [[2, 1], [2, 1], [2]]
        seen = [tuple(row) for part in parts for micro in part for row in micro.tensors["log_probs"].tolist()]
        assert sorted(seen) == sorted(map(tuple, given.rollout.log_probs.tolist()))
        assert sum(micro.units for part in parts for micro in part) == int(given.rollout.response.sum())
        epochs.append(tuple(seen))
    assert len(set(epochs)) == 3


def test_the_first_minibatch_has_ratio_1_nothing_clipped_and_the_loss_of_no_advantage():
    prompts = [prompt_ids(TOKENIZER, prompt) for prompt in PROMPTS[:8]]
    policy, critic = new(1).eval(), RewardModel.from_causal(new(4), 4)
    sampling = SamplingSettings(response_tokens=8, temperature=0.7)
    rollout = collect(policy, new(7).eval(), critic, lambda ids, mask: ids.sum(1).float(), prompts, sampling, IDS, 3)
    objective = PolicyObjective(judge(rollout, UpdateSettings(), 0.05), UpdateSettings(), 0.7, (), 0)
    means = accumulate(objective, policy, objective.batch(0), LoopSettings(precision="fp32"), CPU)
    assert means["ratio"] == pytest.approx(1, abs=1e-5)
    assert means["clip_fraction"] == 0
    assert means["approx_kl"] == pytest.approx(0, abs=1e-9)
    assert means["policy_loss"] == pytest.approx(0, abs=1e-5)  # minus the mean of whitened advantages


def test_a_policy_that_is_not_the_one_that_sampled_is_caught_before_it_learns():
    given, shape = episodes(), UpdateSettings()
    policy, critic = new(8), RewardModel.from_causal(new(9), 9)
    before = weights_sha256(policy)
    loop = LoopSettings(precision="fp32")
    objectives = PolicyObjective(given, shape, 1.0, (), 0), CriticObjective(given, shape, (), 0)
    with pytest.raises(StageError, match="ratio-not-one"):
        update(Optimiser(policy, loop, 1), Optimiser(critic, loop, 1), *objectives, None, 0)
    assert weights_sha256(policy) == before


def test_an_update_ends_before_a_step_that_is_too_far_from_the_policy_that_sampled():
    given = episodes()
    loop = LoopSettings(learning_rate=1e-3, warmup=0, precision="fp32")
    steps = []
    for limit in (None, 1e-6):
        shape = UpdateSettings(epochs=5, approx_kl_limit=limit)
        policy, critic = new(1), RewardModel.from_causal(new(9), 9)
        objectives = PolicyObjective(given, shape, 1.0, (), 0), CriticObjective(given, shape, (), 0)
        done = update(Optimiser(policy, loop, 1), Optimiser(critic, loop, 1), *objectives, None, 0)
        steps.append(done["optimiser_steps"])
    assert steps == [5, 1]


def test_the_mix_in_is_hugging_faces_own_loss_times_its_coefficient():
    model = new(1).eval()
    texts = [Example((), tuple(TOKENIZER(sentence)["input_ids"])) for sentence in SENTENCES[:4]]
    objective = PtxObjective(texts, UpdateSettings(ptx_coefficient=27.8, ptx_rows=4, rows_per_micro=3), IDS["pad"], 0)
    means = accumulate(objective, model, objective.batch(0), LoopSettings(precision="fp32"), CPU)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    batch = TOKENIZER.pad({"input_ids": [list(text.response) for text in texts]}, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch, labels=labels).loss
    (27.8 * loss).backward()
    assert means["ptx_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, atol=2e-5, rtol=0, msg=name)
