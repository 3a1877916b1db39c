"""Packed rows: as few as best-fit finds, and no example knows of its neighbours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import some_examples, tiny_gpt2, tiny_llama

from alignment.packing import bins, pack
from alignment.rows import Example, pad
from alignment.stages.sft import response_loss


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_every_example_stands_in_one_row_and_no_row_overflows(lengths: list[int]) -> None:
    found = bins(lengths, 50)

    assert sorted(i for row in found for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 50 for row in found)
    filled = sorted(sum(lengths[i] for i in row) for row in found)
    assert len(filled) == 1 or filled[0] + filled[1] > 50  # else one row would have done


def test_best_fit_fills_the_fullest_row_that_has_room() -> None:
    assert bins([4, 7, 3, 6, 10], 10) == [[4], [1, 2], [3, 0]]


def test_an_example_too_long_for_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens does not fit a row of 10"):
        bins([3, 11], 10)


def test_a_packed_row_is_its_examples_one_after_the_other() -> None:
    packed = pack([[Example((1, 5), (7, 2)), Example((1,), (8, 2))], [Example((1,), (9,))]], 0)

    assert packed.ids.tolist() == [[1, 5, 7, 2, 1, 8, 2], [1, 9, 0, 0, 0, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2], [0, 1, 0, 0, 0, 0, 0]]
    assert packed.response.int().tolist() == [[0, 0, 1, 1, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0]]
    assert packed.tokens == 9
    assert packed.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1],
    ]


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_packed_loss_and_gradients_are_those_of_rows_one_by_one(make: Any) -> None:
    examples = some_examples(9)
    rows = [[examples[i] for i in row] for row in bins([len(example) for example in examples], 100)]
    assert len(rows) < len(examples)
    alone, together = make(), make()

    one_by_one = sum(
        response_loss(alone, batch.ids, batch.mask, batch.response)
        for batch in (pad([example], 0) for example in examples)
    )
    packed = pack(rows, 0)
    loss = response_loss(together, packed.ids, packed.mask, packed.response, packed.positions)
    one_by_one.backward()
    loss.backward()

    tokens = sum(len(example.response) for example in examples)
    assert loss.item() / tokens == pytest.approx(one_by_one.item() / tokens, abs=1e-6)
    for (name, ours), theirs in zip(together.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad / tokens, theirs.grad / tokens, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_nothing_leaks_from_one_example_of_a_row_into_another(make: Any) -> None:
    first, second, third = some_examples(3)
    other = Example(tuple(reversed(second.prompt)), tuple(reversed(second.response)))
    model = make().eval()
    outputs = []
    for middle in (second, other):
        packed = pack([[first, middle, third]], 0)
        logits = model(input_ids=packed.ids, attention_mask=packed.mask, position_ids=packed.positions).logits[0]
        outputs.append((logits[: len(first)], logits[-len(third) :]))

    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])
    alone = model(input_ids=torch.tensor([[*third.prompt, *third.response]])).logits[0]
    torch.testing.assert_close(outputs[0][1], alone, atol=1e-5, rtol=0)
