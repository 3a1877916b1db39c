"""DPO, IPO, cDPO and KTO against TRL: the same ids, loss and every gradient on the same rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from datasets import Dataset  # noqa: E402
from tiny import SENTENCES, tiny_tokenizer  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer  # noqa: E402

from alignment.loop import LoopSettings, accumulate  # noqa: E402
from alignment.model import load_model, new_model, save_model  # noqa: E402
from alignment.reference import example_log_probs  # noqa: E402
from alignment.rows import encode, encode_responses  # noqa: E402
from alignment.stages.dpo import DpoObjective, DpoSettings  # noqa: E402
from alignment.stages.kto import KtoObjective, KtoSettings  # noqa: E402
from alignment.tokenizer import special_ids  # noqa: E402

CONTEXT = 256
FP32 = LoopSettings(precision="fp32")
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference on disk: TRL reads it from there, whatever the policy in memory has become."""
    tokenizer = tiny_tokenizer()
    folder = tmp_path_factory.mktemp("reference")
    save_model(new_model("160k", len(tokenizer), special_ids(tokenizer), 0, CONTEXT), tokenizer, folder)
    return folder


def policy(start: Path) -> LlamaForCausalLM:
    """The reference, moved away from itself."""
    model = load_model(start)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=draw)
    return model


def said(k: int) -> str:
    return " ".join(SENTENCES[(k + i) % 10] for i in range(1 + k % 2))[: 20 + 9 * (k % 7)].strip()


def message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def options(folder: Path, size: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": size,
        "max_length": CONTEXT,
        "beta": 0.1,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def theirs(trainer: Any) -> tuple[float, dict[str, torch.Tensor], list[list[int]]]:
    """TRL's loss, gradients, and rows without padding."""
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
    return float(loss.detach()), gradients(trainer.model), [ids[mask.bool()].tolist() for ids, mask in rows]


def ours(objective: Any, model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    means = accumulate(objective, model, objective.batch(0), FP32, torch.device("cpu"))
    return means["loss"], gradients(model)


def assert_equal(found: tuple[float, dict[str, torch.Tensor]], expected: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert abs(found[0] - expected[0]) <= TOLERANCE
    assert found[1].keys() == expected[1].keys()
    furthest = {name: float((found[1][name] - value).abs().max()) for name, value in expected[1].items()}
    assert max(furthest.values()) <= TOLERANCE, furthest
    assert max(float(value.abs().max()) for value in expected[1].values()) > 1e-3  # something was compared


@pytest.mark.parametrize(
    ("size", "ours_is", "theirs_is"),
    [
        (8, {}, {"loss_type": "sigmoid"}),
        (8, {"kind": "ipo"}, {"loss_type": "ipo"}),
        # TRL's sigmoid takes no label smoothing; its `aot_unpaired` does, and of one pair that is conservative DPO.
        (1, {"label_smoothing": 0.2}, {"loss_type": "aot_unpaired", "label_smoothing": 0.2}),
    ],
    ids=["dpo", "ipo", "cdpo"],
)
def test_dpo_is_trls_loss_and_gradient(
    start: Path, tmp_path: Path, size: int, ours_is: dict[str, Any], theirs_is: dict[str, Any]
) -> None:
    tokenizer = tiny_tokenizer()
    texts = [(said(3 * k), said(5 * k + 1), said(7 * k + 3)) for k in range(size)]
    rows = [
        {"prompt": message("user", x), "chosen": message("assistant", w), "rejected": message("assistant", b)}
        for x, w, b in texts
    ]
    config = DPOConfig(**options(tmp_path, size), **theirs_is)
    trainer = DPOTrainer(policy(start), args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    loss, grads, ids = theirs(trainer)

    pairs = [tuple(encode_responses(tokenizer, x, (w, b), CONTEXT)[0] or ()) for x, w, b in texts]
    flat = [example for pair in pairs for example in pair]
    assert sorted(ids) == sorted([*example.prompt, *example.response] for example in flat)
    reference = example_log_probs(load_model(start), flat, tokenizer.pad_token_id, FP32).view(-1, 2)
    settings = DpoSettings(loop=FP32, beta=0.1, batch=size, micro=3, **ours_is)
    objective = DpoObjective(settings, pairs, reference, tokenizer.pad_token_id, seed=0, same=False)
    assert_equal(ours(objective, policy(start)), (loss, grads))


@pytest.mark.parametrize("towards", [1.0, -1.0], ids=["z above 0", "z clamped at 0"])
def test_kto_is_trls_loss_and_gradient(start: Path, tmp_path: Path, towards: float) -> None:
    tokenizer = tiny_tokenizer()
    texts = [(f"{k}: {said(3 * k)}", said(7 * k + 3), k % 3 > 0) for k in range(8)]
    examples = [(encode(tokenizer, x, y, CONTEXT)[0], label) for x, y, label in texts]
    settings = KtoSettings(
        loop=FP32, beta=0.1, batch=8, micro=3, desirable_weight=1.3, undesirable_weight=0.7, held_out=0.0
    )
    objective = KtoObjective(settings, examples, tokenizer.pad_token_id, seed=0, same=False, limit=CONTEXT)

    # TRL rotates the rows as they stand in the data; ours as they stand in the step.
    rows = [
        {"prompt": message("user", x), "completion": message("assistant", y), "label": label}
        for x, y, label in (texts[i] for i in objective.order[0])
    ]
    config = KTOConfig(**options(tmp_path, 8), desirable_weight=1.3, undesirable_weight=0.7)
    model, other = policy(start), policy(start)
    for one in (model, other):
        move(one, examples, towards)
    trainer = KTOTrainer(model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    loss, grads, ids = theirs(trainer)
    assert ids == [[*examples[i][0].prompt, *examples[i][0].response] for i in objective.order[0]]

    objective.set_reference(example_log_probs(load_model(start), objective.examples(), tokenizer.pad_token_id, FP32))
    assert_equal(ours(objective, other), (loss, grads))
    z = float(objective.reference_point(other, torch.device("cpu")))
    assert z > 0.5 if towards > 0 else z == 0.0


def move(model: Any, examples: list[Any], towards: float) -> None:
    """A few steps up or down the likelihood of all responses: z is above 0, or clamped there."""
    descent = torch.optim.SGD(model.parameters(), lr=0.05)
    for example, _ in examples:
        ids = torch.tensor([[*example.prompt, *example.response]])
        (towards * model(input_ids=ids, labels=ids).loss).backward()
        descent.step()
        descent.zero_grad()
