"""KL to the start: against brute force over every response there is, and as the effort of a curve."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from alignment.distance import DistanceSettings, distance, drawn_prompts, response_kl  # noqa: E402
from alignment.loop import LoopSettings  # noqa: E402
from alignment.model import load_model, new_model, save_model, weights_sha256  # noqa: E402
from alignment.rollout import SamplingSettings  # noqa: E402
from alignment.stage import Progress, finish_stage  # noqa: E402
from alignment.tokenizer import special_ids  # noqa: E402
from tests.unit.alignment.tiny import tiny_tokenizer  # noqa: E402

IDS = {"pad": 0, "bos": 1, "eos": 2}
VOCABULARY = 6


def model(seed: int) -> Any:
    made = new_model("160k", VOCABULARY, IDS, seed, context=32)
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim == 2:
                p.mul_(3)
    return made.eval()


def exact_kl(policy: Any, start: Any, prompt: list[int], longest: int) -> float:
    """Σ over every response of at most `longest` tokens of π · (log π − log π_start)."""
    total = 0.0
    for length in range(1, longest + 1):
        for response in itertools.product(range(VOCABULARY), repeat=length):
            over = response[-1] == IDS["eos"] or length == longest
            if not over or IDS["eos"] in response[:-1]:
                continue
            ids = torch.tensor([[*prompt, *response]])
            at = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
            with torch.no_grad():
                ours, theirs = (
                    float(m(ids).logits[0, at].double().log_softmax(-1)[torch.arange(length), list(response)].sum())
                    for m in (policy, start)
                )
            total += float(torch.tensor(ours).exp()) * (ours - theirs)
    return total


def test_the_mean_over_sampled_responses_is_the_divergence_of_whole_responses():
    policy, start, prompt = model(1), model(2), [1, 4, 5]
    sampling = SamplingSettings(response_tokens=3, rows_per_forward=512)

    values = response_kl(policy, start, [prompt] * 4096, sampling, IDS, 7)

    expected = exact_kl(policy, start, prompt, 3)
    error = float(values.std()) / len(values) ** 0.5
    assert expected > 0.3
    assert float(values.min()) >= 0
    assert float(values.mean()) == pytest.approx(expected, abs=4 * error)
    assert error < 0.02 * expected


def test_a_model_is_at_no_distance_from_itself():
    values = response_kl(model(1), model(1), [[1, 4], [1, 5, 5]], SamplingSettings(response_tokens=5), IDS, 3)

    assert values.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_prompts_are_drawn_whatever_their_order_and_repeats():
    prompts = [f"question {k}" for k in range(20)]

    assert drawn_prompts(prompts, 5) == drawn_prompts([*reversed(prompts), *prompts], 5)
    assert len(set(drawn_prompts(prompts, 5))) == 5


def stored(folder: Path, made: Any) -> Path:
    save_model(made, tiny_tokenizer(), folder)
    finish_stage(folder, "dpo", "mark", weights_sha256(made), Progress(), {}, {}, arm="a", seed=1)
    return folder


def test_the_distance_of_two_stages_is_measured_once(tmp_path, monkeypatch):
    tokenizer = tiny_tokenizer()
    made = [new_model("160k", len(tokenizer), special_ids(tokenizer), seed, context=64) for seed in (1, 2)]
    policy, start = (stored(tmp_path / name, one) for name, one in zip(("policy", "start"), made, strict=True))
    settings = DistanceSettings(prompts=4, response_tokens=8)
    prompts = ["Who can say why?", "To make tea, boil the water.", "Please tell me how to plant an apple tree."]

    first = distance(policy, start, prompts, settings, LoopSettings(precision="fp32"), 1)
    monkeypatch.setattr("alignment.distance.load_model", lambda folder: pytest.fail("a model was loaded again"))
    again = distance(policy, start, prompts, settings, LoopSettings(precision="fp32"), 1)

    assert first is not None
    assert first > 0
    assert again == first


def test_prompts_that_leave_no_room_give_no_distance(tmp_path):
    tokenizer = tiny_tokenizer()
    made = new_model("160k", len(tokenizer), special_ids(tokenizer), 1, context=16)
    policy, start = (stored(tmp_path / name, made) for name in ("policy", "start"))
    settings = DistanceSettings(prompts=4, response_tokens=12)

    assert distance(policy, start, ["a long question of many words " * 4], settings, LoopSettings(), 1) is None
    assert load_model(policy) is not None
