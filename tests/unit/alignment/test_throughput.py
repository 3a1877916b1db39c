"""Operations of a model against counts by hand, and their share of a device's peak."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alignment import throughput
from alignment.loop import Micro
from alignment.model import SIZES, RewardModel, new_model
from alignment.throughput import Flops, Throughput, peak_flops

IDS = {"pad": 0, "bos": 1, "eos": 2}
CUDA = torch.device("cuda", 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"s": 50.0}
    monkeypatch.setattr(throughput.time, "monotonic", lambda: now["s"])
    return now


def device_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)


def test_operations_of_a_token_are_those_of_the_formula() -> None:
    model = new_model("160k", 320, IDS, seed=0)
    n = 320 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 176 + 2 * 64) + 64
    flops = Flops.of(model)

    assert flops is not None
    assert flops.per_token(128) == 6 * n + 12 * 2 * 64 * 128
    assert Flops.of(RewardModel.from_causal(model)).per_token(128) == 6 * (n + 65) + 12 * 2 * 64 * 128  # type: ignore[union-attr]


def test_a_124m_model_of_1024_tokens_costs_what_nanogpts_does() -> None:
    with torch.device("meta"):
        flops = Flops.of(new_model("124m", SIZES["124m"].vocabulary, IDS, seed=0))
    assert flops is not None
    assert flops.per_token(1024) == pytest.approx(857e6, rel=0.01)


def test_frozen_weights_cost_no_gradient_of_their_own() -> None:
    model = new_model("160k", 320, IDS, seed=0)
    trained = Flops.of(model)
    for p in model.parameters():
        p.requires_grad_(False)
    frozen = Flops.of(model)

    assert trained is not None
    assert frozen is not None
    assert frozen.weights == trained.weights * 4 / 6
    assert frozen.attention == trained.attention


def test_a_model_that_does_not_say_its_shape_has_no_count() -> None:
    assert Flops.of(nn.Linear(2, 2)) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_peak_of_a_device_goes_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None) -> None:
    device_named(monkeypatch, name)
    assert peak_flops(CUDA) == peak


def test_a_cpu_has_no_known_peak() -> None:
    assert peak_flops(torch.device("cpu")) is None


def test_speed_is_what_went_through_since_the_last_reading(
    monkeypatch: pytest.MonkeyPatch, clock: dict[str, float]
) -> None:
    device_named(monkeypatch, "NVIDIA H200")
    model = new_model("160k", 320, IDS, seed=0)
    flops = Flops.of(model)
    assert flops is not None
    speed = Throughput(model, CUDA, devices=2)
    short = Micro({"ids": torch.zeros(4, 32), "weight": torch.zeros(4)}, units=100, tokens=100)
    long = Micro({"ids": torch.zeros(2, 64)}, units=90, tokens=120)

    speed.count([short, long])
    clock["s"] += 0.5
    first = speed.read()
    speed.count([short])
    clock["s"] += 4.0

    done = 100 * flops.per_token(32) + 120 * flops.per_token(64)
    assert first == {"tokens_per_s": 440.0, "mfu": round(done / 0.5 / (2 * 989e12), 5)}
    assert speed.read()["tokens_per_s"] == 25.0


def test_without_a_known_peak_there_is_no_mfu(clock: dict[str, float]) -> None:
    speed = Throughput(new_model("160k", 320, IDS, seed=0), torch.device("cpu"))
    speed.count([Micro({"ids": torch.zeros(4, 32)}, units=1, tokens=128)])
    clock["s"] += 2
    assert speed.read() == {"tokens_per_s": 64.0}
