"""What the tests of DPO and KTO start from: a tiny model on disk, and rows about a river."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tiny import SENTENCES, tiny_tokenizer

from alignment.loop import LoopSettings, SliceOverError, accumulate
from alignment.model import new_model, save_model
from alignment.preferences import JudgedRow, PreferenceRow, judged_from_pairs
from alignment.tokenizer import special_ids

CONTEXT = 96
FAST = LoopSettings(
    precision="fp32", learning_rate=1e-3, schedule="linear", warmup=0.1, final=0.0, weight_decay=0.0, log_every=1
)


def start(folder: Path, seed: int = 0) -> Path:
    """A model directory."""
    tokenizer = tiny_tokenizer()
    save_model(new_model("160k", len(tokenizer), special_ids(tokenizer), seed, CONTEXT), tokenizer, folder)
    return folder


def pairs(number: int) -> list[PreferenceRow]:
    """A short answer over a long one, each of another prompt."""
    return [
        PreferenceRow(
            f"Question {k}: {SENTENCES[k % 10][: 15 + k % 9]}",
            f"Yes, the river {k % 7}.",
            f"No. {SENTENCES[(k + 3) % 10][: 12 + k % 17]}",
        )
        for k in range(number)
    ]


def judged(number: int) -> list[JudgedRow]:
    """The same as single judgements, half of them desirable."""
    return judged_from_pairs(pairs(number))


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def in_slices(run: Any, folder: Path) -> tuple[Any, int]:
    """Run a stage that is stopped after every step, again and again, to its end.

    Returns:
        Its result, and how often it was stopped.
    """
    for stops in range(100):
        try:
            return run(folder), stops
        except SliceOverError:
            assert list((folder / "checkpoints").glob("*.pt"))
    raise AssertionError("never finished")


def gradients(objective: Any, model: Any) -> dict[str, Any]:
    """The loss of the first step under "loss", and the gradient of every weight."""
    means = accumulate(objective, model, objective.batch(0), FAST, torch.device("cpu"))
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return {"loss": torch.tensor(means["loss"]), **found}


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-6) -> None:
    """Loss and every gradient agree, and there is something to compare."""
    assert found.keys() == expected.keys()
    assert max(float((found[name] - value).abs().max()) for name, value in expected.items()) <= tolerance
    assert max(float(value.abs().max()) for name, value in expected.items() if name != "loss") > 1e-3
