"""The KTO stage: its reference point, its weights, what it learns and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from direct_cases import CONTEXT, FAST, assert_same, gradients, in_slices, judged, metrics, start  # noqa: E402
from tiny import tiny_tokenizer  # noqa: E402

from alignment.lora import LoraSettings  # noqa: E402
from alignment.losses import response_log_prob  # noqa: E402
from alignment.model import load_model, weights_sha256  # noqa: E402
from alignment.preferences import JudgedRow, write_rows  # noqa: E402
from alignment.reference import example_log_probs  # noqa: E402
from alignment.rows import Example, encode, pad  # noqa: E402
from alignment.stages.kto import (  # noqa: E402
    KtoObjective,
    KtoSettings,
    balanced_weights,
    held_out_metrics,
    kto,
    mismatched,
)
from curation.errors import ConfigError, DataContractError, StageError  # noqa: E402

SETTINGS = KtoSettings(loop=FAST, batch=8, micro=4, epochs=2, held_out=0.2)


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("sft"))


def encoded(number: int) -> list[tuple[Example, bool]]:
    """Rows of different prompts, every third desirable."""
    tokenizer, found = tiny_tokenizer(), []
    for k, row in enumerate(judged(number)[:number]):
        example, _ = encode(tokenizer, f"{k} {row.prompt}", row.response, CONTEXT)
        assert example is not None
        found.append((example, k % 3 == 0))
    return found


def objective(sft: Path, settings: KtoSettings, rows: list[tuple[Example, bool]], same: bool = False) -> KtoObjective:
    pad_id = int(tiny_tokenizer().pad_token_id)
    found = KtoObjective(settings, rows, pad_id, seed=0, same=same, limit=CONTEXT)
    found.set_reference(example_log_probs(load_model(sft), found.examples(), pad_id, FAST))
    return found


def moved(sft: Path) -> Any:
    """A policy away from its reference, towards all responses: its z is above 0."""
    model, descent = load_model(sft), None
    descent = torch.optim.SGD(model.parameters(), lr=0.05)
    for example, _ in encoded(8):
        ids = torch.tensor([[*example.prompt, *example.response]])
        model(input_ids=ids, labels=ids).loss.backward()
        descent.step()
        descent.zero_grad()
    return model


def test_kto_starts_at_a_half_and_moves_the_two_labels_apart_on_prompts_it_never_saw(sft: Path, tmp_path: Path) -> None:
    result = kto(SETTINGS, sft, judged(40), tmp_path / "kto", seed=0, arm="raw")
    log = metrics(tmp_path / "kto")
    assert abs(log[0]["loss"] - 0.5) < 1e-6
    assert log[0]["z"] == pytest.approx(0.0, abs=1e-4)
    numbers = result.metrics
    assert numbers["rows"] + numbers["held_out"] == 80
    assert 0 < numbers["margin_gain_low"] < numbers["margin_gain"] < numbers["margin_gain_high"]
    apart = numbers["reward_desirable"] - numbers["reward_undesirable"]
    assert apart == pytest.approx(0.1 * numbers["margin_gain"], 1e-4)
    assert log[-1]["reward_desirable"] > log[-1]["reward_undesirable"]
    assert 0 < numbers["kl_per_token"] < 1
    assert (result.stage, result.arm, result.seed, result.rows) == ("kto", "raw", 0, {"kept": 80})
    assert weights_sha256(load_model(tmp_path / "kto")) == result.weights_sha256


def test_a_stage_stopped_after_every_step_ends_bit_for_bit_as_one_that_was_not(sft: Path, tmp_path: Path) -> None:
    whole = kto(SETTINGS, sft, judged(15), tmp_path / "whole", seed=0)
    loop = FAST.model_copy(update={"stop_after_s": 1e-9, "checkpoint_every_s": 0.0})
    settings = SETTINGS.model_copy(update={"loop": loop})
    again, stops = in_slices(lambda folder: kto(settings, sft, judged(15), folder, seed=0), tmp_path / "slices")
    assert stops == whole.steps - 1
    assert replace(again, path=whole.path, wall_s=whole.wall_s) == whole
    for name in ("model.safetensors", "reference.safetensors"):
        assert (tmp_path / "slices" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_identical_rows_in_two_arms_give_identical_weights(sft: Path, tmp_path: Path) -> None:
    arms = [kto(SETTINGS, sft, judged(10), tmp_path / arm, seed=3, arm=arm) for arm in ("raw", "curated")]
    assert arms[0].weights_sha256 == arms[1].weights_sha256
    assert arms[0].metrics == arms[1].metrics
    assert kto(SETTINGS, sft, judged(10), tmp_path / "other", seed=4).weights_sha256 != arms[0].weights_sha256


# The reference point


def test_every_prompt_meets_the_response_of_the_row_before_it() -> None:
    rows = [Example((k, 50), (10 + k, 2)) for k in range(4)]
    assert mismatched(rows, 99) == [Example((k, 50), (10 + (k - 1) % 4, 2)) for k in range(4)]


def test_a_row_of_the_same_prompt_or_with_the_same_response_is_stepped_over() -> None:
    a1, a2, b, c = Example((1,), (10,)), Example((1,), (11,)), Example((2,), (12,)), Example((3,), (10,))
    assert mismatched([a1, a2, b], 99) == [Example((1,), (12,)), Example((1,), (12,)), Example((2,), (11,))]
    assert mismatched([a1, c, b], 99) == [Example((1,), (12,)), Example((3,), (12,)), Example((2,), (10,))]
    assert mismatched([a1, a2], 99) == [None, None]
    assert mismatched([a1, c], 99) == [None, None]


def test_a_mismatched_response_is_cut_to_the_context() -> None:
    rows = [Example((1, 1, 1), (2,)), Example((3,), (4, 5, 6, 7))]
    assert mismatched(rows, 5) == [Example((1, 1, 1), (4, 5)), Example((3,), (2,))]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9))
def test_no_row_is_ever_matched_with_itself(pairs: list[tuple[int, int]]) -> None:
    rows = [Example((x,), (100 + y,)) for x, y in pairs]
    for row, found in zip(rows, mismatched(rows, 9), strict=True):
        possible = any(o.prompt != row.prompt and o.response != row.response for o in rows)
        assert (found is not None) == possible
        assert found is None or (found.prompt == row.prompt and found.response != row.response)


def test_the_reference_point_is_the_mean_over_mismatched_pairs_and_never_negative(sft: Path) -> None:
    rows, model, settings = encoded(8), moved(sft), KtoSettings(loop=FAST, batch=8, micro=3)
    one = objective(sft, settings, rows)
    one.batch(0)
    order, before, total = one.order[0].tolist(), load_model(sft), 0.0
    for k, i in enumerate(order):
        prompt, response = rows[i][0].prompt, rows[order[k - 1]][0].response
        batch = pad([Example(prompt, response)], 0)
        with torch.no_grad():
            values = [response_log_prob(m(batch.ids).logits, batch.ids, batch.response) for m in (model, before)]
        total += float(values[0] - values[1])
    found = one.reference_point(model, torch.device("cpu"))
    assert float(found) == pytest.approx(total / 8, rel=1e-5)
    assert total > 0
    assert not found.requires_grad
    one.pair_reference = [reference + 100 for reference in one.pair_reference]
    assert float(one.reference_point(model, torch.device("cpu"))) == 0.0


# Invariances of the objective


def test_one_batch_of_eight_is_four_of_two(sft: Path) -> None:
    rows, model, found = encoded(8), moved(sft), []
    for micro in (8, 2):
        one = objective(sft, KtoSettings(loop=FAST, batch=8, micro=micro), rows)
        assert len(one.batch(0)) == 8 // micro
        found.append(gradients(one, model))
    assert_same(found[1], found[0])


def test_the_side_of_the_padding_does_not_matter(sft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, model = objective(sft, KtoSettings(loop=FAST, batch=8, micro=4), encoded(8)), moved(sft)
    right = gradients(one, model)
    monkeypatch.setattr("alignment.stages.kto.pad", partial(pad, side="left"))
    assert not bool(one.batch(0)[0].tensors["mask"][:, 0].all())
    assert_same(gradients(one, model), right)


def test_the_order_of_a_step_matters_through_the_rotation_alone(sft: Path) -> None:
    """Turning the rows in a circle keeps every mismatched pair; another order makes other pairs, and so another z."""
    rows, model, settings = encoded(8), moved(sft), KtoSettings(loop=FAST, batch=8, micro=3)
    ones = [objective(sft, settings, rows) for _ in range(3)]
    order = ones[0].order[0]
    examples = [example for example, _ in rows]
    for one, changed in ((ones[1], np.roll(order, 3)), (ones[2], order[::-1])):
        one.order = [changed]
        one.pairs = [mismatched([examples[i] for i in changed], CONTEXT)]
        one.pair_reference = []
        one.set_reference(example_log_probs(load_model(sft), one.examples(), one.pad_id, FAST))
    found = [gradients(one, model) for one in ones]
    assert_same(found[1], found[0])
    z = [float(one.reference_point(model, torch.device("cpu"))) for one in ones]
    assert z[1] == pytest.approx(z[0], rel=1e-5)
    assert z[2] != pytest.approx(z[0], rel=1e-5)
    for one in ones:  # the same point given, any order is the same step
        one.reference_point = lambda *_: torch.tensor(z[0])
    assert_same(gradients(ones[2], model), gradients(ones[0], model))


def test_log_probabilities_that_are_not_the_policys_own_are_refused_at_the_first_step(sft: Path) -> None:
    one = objective(sft, KtoSettings(loop=FAST, batch=8), encoded(8), same=True)
    gradients(one, load_model(sft))
    one.reference = one.reference + 0.5
    with pytest.raises(StageError, match="wrong-reference"):
        gradients(one, load_model(sft))


# Weights


@pytest.mark.parametrize(
    ("given_d", "given_u", "desirable", "undesirable", "expected"),
    [
        (None, None, 50, 50, (1.0, 1.0)),
        (None, None, 60, 50, (1.0, 1.0)),  # 1.2 lies in [1, 4/3]
        (None, None, 90, 10, (1.0, 9.0)),
        (None, None, 10, 90, (9.0, 1.0)),
        (None, 2.0, 10, 40, (8.0, 2.0)),
        (3.0, None, 10, 40, (3.0, 0.75)),
        (1.2, 1.0, 50, 50, (1.2, 1.0)),
    ],
)
def test_weights_that_are_not_set_balance_the_labels(
    given_d: float | None,
    given_u: float | None,
    desirable: int,
    undesirable: int,
    expected: tuple[float, float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = KtoSettings(desirable_weight=given_d, undesirable_weight=given_u)
    found = balanced_weights(settings, desirable, undesirable)
    assert found == pytest.approx(expected)
    assert 1 - 1e-9 <= found[0] * desirable / (found[1] * undesirable) <= 4 / 3
    assert capsys.readouterr().err == ""


def test_weights_out_of_balance_are_taken_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    settings = KtoSettings(desirable_weight=1.0, undesirable_weight=1.0)
    assert balanced_weights(settings, 90, 10) == (1.0, 1.0)
    assert "1 × 90 desirable rows over 1 × 10 undesirable ones is 9, outside [1, 4/3]" in capsys.readouterr().err
    assert balanced_weights(settings, 50, 0) == (1.0, 1.0)
    assert "all rows are desirable" in capsys.readouterr().err
    assert balanced_weights(settings, 0, 50) == (1.0, 1.0)
    assert "all rows are undesirable" in capsys.readouterr().err


# Bad input


def test_a_batch_of_one_is_refused(sft: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kto\.batch"):
        kto(KtoSettings(batch=1), sft, judged(10), tmp_path / "one", seed=0)
    with pytest.raises(DataContractError, match="at least 2"):
        kto(KtoSettings(held_out=0.0), sft, judged(10)[:1], tmp_path / "row", seed=0)


def test_no_step_is_left_with_one_row() -> None:
    for number, sizes in ((9, {3}), (7, {2, 3}), (3, {3}), (2, {2})):
        one = KtoObjective(KtoSettings(batch=3 if number > 3 else 2), encoded(number), 0, 0, False, CONTEXT)
        assert {len(step) for step in one.order} == sizes
        assert sorted(np.concatenate(one.order).tolist()) == list(range(number))


def test_rows_of_one_prompt_are_refused(sft: Path, tmp_path: Path) -> None:
    rows = [JudgedRow("Same?", f"Answer {k}.", k % 2 == 0) for k in range(6)]
    with pytest.raises(DataContractError, match="one-prompt"):
        kto(KtoSettings(held_out=0.0), sft, rows, tmp_path, seed=0)


def test_bad_rows_are_skipped_by_name_and_counted(sft: Path, tmp_path: Path) -> None:
    bad = [JudgedRow("Empty?", "  ", True), JudgedRow("Long? " * 200, "Yes.", False)]
    write_rows(tmp_path / "judged.jsonl", [*judged(10), *bad])
    with (tmp_path / "judged.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"prompt": "No label?", "completion": "Yes."}\n')
    clean = kto(SETTINGS, sft, judged(10), tmp_path / "clean", seed=0)
    result = kto(SETTINGS, sft, tmp_path / "judged.jsonl", tmp_path / "bad", seed=0)
    assert result.rows == {"kept": 20, "skipped_bad_line": 1, "skipped_empty_response": 1, "skipped_long_prompt": 1}
    assert result.weights_sha256 == clean.weights_sha256


def test_with_lora_only_the_adapters_layers_move(sft: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4)})
    assert kto(settings, sft, judged(20), tmp_path, seed=0).metrics["margin_gain_low"] > 0
    after = load_model(tmp_path).state_dict()
    moved_ones = {name for name, value in load_model(sft).state_dict().items() if not torch.equal(value, after[name])}
    assert moved_ones == {name for name in after if name.endswith("_proj.weight")}
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_the_held_out_margin_is_the_difference_of_two_means_with_its_error() -> None:
    before, after = torch.zeros(5), torch.tensor([2.0, 4.0, -1.0, -1.0, -4.0])
    desirable = [True, True, False, False, False]
    found = held_out_metrics(before, after, before, desirable, 0.5, ["a", "b", "c", "d", "e"])
    # Means 3 and −2. Welch's variance with n for n − 1 in both, and the factor C / (C − 1) of five clusters:
    error = np.sqrt(5 / 4 * ((1 + 1) / 4 + (1 + 1 + 4) / 9))
    assert found == pytest.approx(
        {
            "held_out_desirable": 2.0,
            "reward_desirable": 1.5,
            "reward_undesirable": -1.0,
            "margin_gain": 5.0,
            "margin_gain_low": 5.0 - 2.776445 * error,
            "margin_gain_high": 5.0 + 2.776445 * error,
        },
        rel=1e-6,
    )
    assert held_out_metrics(before, after, before, [True] * 5, 0.5, list("abcde")) == pytest.approx(
        {"held_out_desirable": 5.0, "reward_desirable": 0.0}
    )
