"""Which attention kernel a model is trained with, and that it is itself again afterwards."""

from __future__ import annotations

import pytest
import torch

from alignment import attention
from alignment.attention import fastest_attention
from alignment.loop import LoopSettings
from alignment.model import new_model

IDS = {"pad": 0, "bos": 1, "eos": 2}


@pytest.mark.parametrize(
    ("precision", "compiled", "width", "inside"),
    [
        ("bf16", False, 128, "eager"), ("bf16", False, 129, "sdpa"), ("bf16", True, 256, "eager"),
        ("bf16", True, 257, "sdpa"), ("fp32", True, 128, "sdpa"),
    ],
)  # fmt: skip
def test_short_rows_in_bf16_on_a_cpu_take_the_plain_formula(
    monkeypatch: pytest.MonkeyPatch, precision: str, compiled: bool, width: int, inside: str
) -> None:
    monkeypatch.setattr(attention, "device", lambda: torch.device("cpu"))
    model = new_model("160k", 64, IDS, seed=0, context=32)
    settings = LoopSettings.model_validate({"precision": precision, "compile": compiled})
    with fastest_attention(model, settings, width):
        assert model.config._attn_implementation == inside
    assert model.config._attn_implementation == "sdpa"


def test_both_kernels_give_the_same_logits() -> None:
    model = new_model("160k", 64, IDS, seed=0, context=32).eval()
    ids = torch.arange(3, 35).unsqueeze(0)
    with torch.no_grad():
        flash = model(ids).logits
        with fastest_attention(model, LoopSettings(precision="bf16"), 32):
            plain = model(ids).logits
    torch.testing.assert_close(plain, flash, rtol=1e-5, atol=1e-5)
