"""The reward objective against TRL's RewardTrainer, the closed formulas, and numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment.calibration_plot import pair_report, reliability_svg
from alignment.loop import LoopSettings, accumulate
from alignment.losses import centring, list_loss, pair_loss
from alignment.model import RewardModel, new_model, save_model
from alignment.preferences import PreferenceRow
from alignment.rows import pad
from alignment.stages.reward import RewardObjective, RewardSettings, encoded, micro, start
from alignment.tokenizer import load_tokenizer, special_ids
from tests.unit.alignment.tiny import SENTENCES, tiny_tokenizer

LOOP = LoopSettings(precision="fp32")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    tokenizer = tiny_tokenizer()
    model = new_model("160k", len(tokenizer), special_ids(tokenizer), seed=3)
    with torch.no_grad():
        # Fresh embeddings of 0.02 come out of the first norm 50 times larger, and so do rounding errors of gradients.
        model.get_input_embeddings().weight.mul_(10)
    save_model(model, tokenizer, folder)
    return folder


def rows_with_margins() -> list[PreferenceRow]:
    return [
        PreferenceRow(f"Question {k}?", SENTENCES[k], SENTENCES[k + 1][: 10 + 5 * k], margin=0.25 * k) for k in range(8)
    ]


@pytest.mark.parametrize(("margins", "centre"), [(False, 0.0), (True, 0.0), (True, 0.01)])
@pytest.mark.parametrize(("dtype", "at_once", "tolerance"), [(torch.float32, 16, 1e-6), (torch.float64, 6, 1e-12)])
def test_loss_and_every_gradient_are_trls(
    backbone: Path, tmp_path: Path, margins: bool, centre: float, dtype: torch.dtype, at_once: int, tolerance: float
) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    from transformers import AutoModelForSequenceClassification

    tokenizer = load_tokenizer(backbone)
    settings = RewardSettings(loop=LOOP, batch=8, micro=at_once, keep_layers=1.0, held_out=0.0, centring=centre)
    ours = start(settings, backbone, seed=5).to(dtype)
    theirs = AutoModelForSequenceClassification.from_pretrained(str(backbone), num_labels=1, dtype=dtype)
    theirs.model.load_state_dict(ours.backbone.state_dict())
    with torch.no_grad():
        theirs.score.weight.copy_(ours.head.weight)
    compared = encoded(tokenizer, rows_with_margins(), 128, 0.0)[0]
    columns: dict[str, Any] = {
        "chosen_ids": [list(row.examples[0].prompt + row.examples[0].response) for row in compared],
        "rejected_ids": [list(row.examples[1].prompt + row.examples[1].response) for row in compared],
    }
    if margins:
        columns["margin"] = [row.margin for row in compared]
    else:
        compared = [type(row)(row.key, row.examples, row.ranks, 0.0) for row in compared]
    config = trl.RewardConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=8, report_to=[], use_cpu=True, bf16=False,
        gradient_checkpointing=False, center_rewards_coefficient=centre or None,
    )  # fmt: skip
    trainer = trl.RewardTrainer(
        model=theirs, args=config, train_dataset=datasets.Dataset.from_dict(columns), processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(theirs, batch)
    loss.backward()

    objective = RewardObjective(settings, compared, tokenizer.pad_token_id, seed=0)
    means = accumulate(objective, ours, objective.batch(0), LOOP, torch.device("cpu"))
    assert means["loss"] == pytest.approx(float(loss.detach()), abs=1e-6)
    expected = {f"backbone.{name}": p.grad for name, p in theirs.model.named_parameters()}
    expected["head.weight"] = theirs.score.weight.grad
    found = {name: p.grad for name, p in ours.named_parameters() if name != "head.bias"}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=0, atol=tolerance), name
    assert min(float(gradient.abs().max()) for gradient in found.values()) > 5e-5  # there was something to compare


def test_a_list_of_two_is_a_pair(backbone: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    settings = RewardSettings(loop=LOOP, keep_layers=1.0)
    as_pairs = [
        type(row)(row.key, row.examples, row.ranks, 0.0) for row in encoded(tokenizer, rows_with_margins(), 128, 0)[0]
    ]
    as_lists = [type(row)(row.key, row.examples, row.ranks, None) for row in as_pairs]
    found = []
    for rows in (as_pairs, as_lists):
        model = start(settings, backbone, 0)
        objective = RewardObjective(settings.model_copy(update={"centring": 0.02}), rows, tokenizer.pad_token_id, 0)
        loss, logged = objective.loss(model, micro(rows, tokenizer.pad_token_id))
        loss.backward()
        found.append(
            (float(loss.detach()), {k: float(v.detach()) for k, v in logged.items()}, model.head.weight.grad.clone())
        )
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-5)
    assert torch.allclose(found[0][2], found[1][2], atol=1e-6)


def test_a_list_costs_one_forward_pass_a_response_and_the_mean_of_all_its_pairs(backbone: Path) -> None:
    from alignment.preferences import RankedRow

    tokenizer = load_tokenizer(backbone)
    row = encoded(tokenizer, [RankedRow("Tell me.", SENTENCES[:5], (3, 1, 2, 2, 5))], 128, 0.0)[0][0]
    assert row.ranks == (1, 2, 2, 3, 5)
    given = micro([row], tokenizer.pad_token_id)
    assert given.tensors["ids"].shape[0] == 5
    assert given.units == 1
    settings = RewardSettings(loop=LOOP, keep_layers=1.0, centring=0.5)
    model = start(settings, backbone, 0)
    loss, logged = RewardObjective(settings, [row], tokenizer.pad_token_id, 0).loss(model, given)
    batch = pad(row.examples, tokenizer.pad_token_id)
    r = model.raw(batch.ids, batch.mask).detach().double().tolist()
    ordered = [(i, j) for i, j in combinations(range(5), 2) if row.ranks[i] < row.ranks[j]]
    assert len(ordered) == 9  # one of the ten pairs is a tie
    losses = [math.log1p(math.exp(-(r[i] - r[j]))) + 0.5 * (r[i] + r[j]) ** 2 for i, j in ordered]
    assert float(loss.detach()) == pytest.approx(sum(losses) / 9, abs=1e-6)
    assert float(logged["accuracy"].detach()) == pytest.approx(sum(r[i] > r[j] for i, j in ordered) / 9, abs=1e-6)
    assert float(logged["margin"].detach()) == pytest.approx(sum(r[i] - r[j] for i, j in ordered) / 9, abs=1e-6)


@pytest.mark.parametrize("k", [2, 4, 9])
def test_the_gradient_of_a_list_is_the_closed_formula(k: int) -> None:
    r = torch.randn(k, dtype=torch.float64, generator=torch.Generator().manual_seed(k), requires_grad=True)
    ranks = torch.arange(1, k + 1)
    (found,) = torch.autograd.grad(list_loss(r.unsqueeze(0), ranks.unsqueeze(0)).sum(), r)
    x = r.detach().numpy()
    pairs = k * (k - 1) / 2

    def sigma(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    expected = [
        -(sum(sigma(x[j] - x[i]) for j in range(i + 1, k)) - sum(sigma(x[i] - x[j]) for j in range(i))) / pairs
        for i in range(k)
    ]
    assert found.numpy() == pytest.approx(expected, abs=1e-12)
    assert float(found.sum()) == pytest.approx(0, abs=1e-12)
    equal = torch.zeros(1, k, dtype=torch.float64, requires_grad=True)
    loss = list_loss(equal, ranks.unsqueeze(0))
    assert float(loss.detach()) == pytest.approx(math.log(2))
    (found,) = torch.autograd.grad(loss.sum(), equal)
    assert found[0].numpy() == pytest.approx([-(k - 2 * i + 1) / (2 * pairs) for i in range(1, k + 1)], abs=1e-12)


def test_losses_of_the_reward_model_pass_gradcheck_in_float64() -> None:
    draw = torch.Generator().manual_seed(0)
    better, worse, margin = (torch.randn(5, dtype=torch.float64, generator=draw) for _ in range(3))
    for tensor in (better, worse):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: pair_loss(a, b, margin), (better, worse))
    assert torch.autograd.gradcheck(centring, (better, worse))
    scores = torch.randn(3, 6, dtype=torch.float64, generator=draw, requires_grad=True)
    ranks = torch.tensor([[1, 2, 3, 4, 5, 6], [2, 1, 2, 3, 3, 1], [1, 2, 0, 0, 0, 0]])
    present = ranks > 0
    assert torch.autograd.gradcheck(lambda s: list_loss(s, ranks, present), (scores,))


def test_a_constant_added_to_all_rewards_changes_no_loss() -> None:
    scores = torch.randn(4, 5, dtype=torch.float64)
    ranks = torch.arange(1, 6).expand(4, 5)
    assert torch.allclose(list_loss(scores, ranks), list_loss(scores + 7.0, ranks), atol=1e-12)


def test_scores_are_those_of_a_hugging_face_sequence_classifier(backbone: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = start(RewardSettings(keep_layers=1.0), backbone, 1).eval()
    theirs = AutoModelForSequenceClassification.from_pretrained(str(backbone), num_labels=1, dtype=torch.float32).eval()
    theirs.model.load_state_dict(model.backbone.state_dict())
    tokenizer = load_tokenizer(backbone)
    theirs.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        theirs.score.weight.copy_(model.head.weight)
        ids = [tokenizer(text)["input_ids"] for text in SENTENCES]
        width = max(map(len, ids))
        batch = torch.tensor([one + [tokenizer.pad_token_id] * (width - len(one)) for one in ids])
        mask = batch != tokenizer.pad_token_id
        assert torch.allclose(model.raw(batch, mask), theirs(batch, mask).logits.squeeze(1), atol=1e-6)


def test_a_report_of_pairs_is_what_is_worked_out_by_hand() -> None:
    better = np.array([math.log(4), math.log(4), math.log(4), math.log(4), 0.0, math.log(1.5)])
    worse = np.array([0.0, 0.0, 0.0, 2 * math.log(4), 0.0, 0.0])
    report = pair_report(better, worse)
    # Stated 0.8 four times, right three times; 0.5 once, half right; 0.6 once, right.
    assert report.pairs == 6
    assert report.accuracy == pytest.approx(4.5 / 6)
    assert report.ece == pytest.approx((4 * abs(0.8 - 0.75) + 0 + 1 * abs(0.6 - 1)) / 6)
    logs = [math.log(0.8)] * 3 + [math.log(0.2), math.log(0.5), math.log(0.6)]
    assert report.log_loss == pytest.approx(-sum(logs) / 6)
    assert [(round(part.stated, 9), part.right, part.pairs) for part in report.bins] == [
        (0.5, 0.5, 1),
        (0.6, 1.0, 1),
        (0.8, 0.75, 4),
    ]
    # Wilson's interval of 4 among 6, from his formula (1927).
    z, p, n = 1.959963984540054, 4 / 6, 6
    middle, reach = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert report.accuracy_low == pytest.approx((middle - reach) / (1 + z * z / n))
    assert report.accuracy_high == pytest.approx((middle + reach) / (1 + z * z / n))
    assert report.numbers()["calibration_0.80_0.85_right"] == 0.75


def test_rewards_that_follow_bradley_terry_are_calibrated_and_doubled_ones_are_not() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(2, 20_000))
    wins = draw.random(20_000) < 1 / (1 + np.exp(second - first))
    better, worse = np.where(wins, first, second), np.where(wins, second, first)
    assert pair_report(better, worse).ece < 0.015
    assert pair_report(2 * better, 2 * worse).ece > 0.08


def test_the_plot_shows_every_bin_and_escapes_its_title() -> None:
    import xml.etree.ElementTree as ElementTree

    draw = np.random.default_rng(1)
    report = pair_report(draw.normal(1, 1, 500), draw.normal(0, 1, 500))
    root = ElementTree.fromstring(reliability_svg(report, "a < b & c"))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}circle")) == len(report.bins) == 10
    texts = [element.text for element in root.findall(f"{space}text")]
    assert "a < b & c" in texts
    assert any(text and text.startswith("500 held-out pairs, accuracy 0.") for text in texts)


def test_the_head_keeps_fp32_under_bf16_autocast(backbone: Path) -> None:
    from alignment.reward_scores import last_scores

    model: RewardModel = start(RewardSettings(keep_layers=1.0), backbone, 0).eval()
    with torch.no_grad():
        model.head.bias.fill_(1000.0)  # bf16 holds no number between 1000 and 1004
        ids = torch.randint(10, 300, (8, 12), generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = last_scores(model, ids, torch.ones_like(ids, dtype=torch.bool))
    assert scores.dtype == torch.float32
    assert len(set(scores.tolist())) == 8
