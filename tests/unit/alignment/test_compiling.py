"""Compiled models: the same names and numbers, and taken off after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import CPU, FP32, Tokens, assert_close, language_model, trained
from torch import Tensor, nn
from torch._inductor.exc import InvalidCxxCompiler

from alignment.compiling import check_compiler, compile_blocks
from alignment.loop import SliceOverError, train
from alignment.model import RewardModel, weights_sha256
from curation.errors import ConfigError


class Other(nn.Module):
    """No language model and none in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


@pytest.mark.parametrize("kind", ["language", "reward", "other"])
def test_compiling_leaves_the_names_of_the_weights_and_the_numbers(kind: str) -> None:
    model = language_model()
    made: Any = {"language": model, "reward": RewardModel.from_causal(model), "other": Other()}[kind]
    ids, mask = torch.randint(3, 96, (2, 20)), torch.ones(2, 20, dtype=torch.bool)
    calls = []

    def run() -> Tensor:
        if kind == "language":
            return torch.as_tensor(made(input_ids=ids, use_cache=False).logits)
        return torch.as_tensor(made(ids, mask) if kind == "reward" else made(ids.float()))

    before, names, sha256 = run(), list(made.state_dict()), weights_sha256(made)

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append(graph)
        return graph.forward

    compile_blocks(made, backend=backend)
    after = run()
    torch.compiler.reset()

    assert calls, "nothing was compiled"
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    assert (list(made.state_dict()), weights_sha256(made)) == (names, sha256)


def test_a_compiled_stage_stopped_and_taken_up_again_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    try:
        check_compiler(CPU)
    except ConfigError as error:
        pytest.skip(str(error))
    compiled = FP32.model_copy(update={"compile": True})
    whole = trained(Tokens((8,)), compiled, tmp_path / "whole")
    plain = trained(Tokens((8,)), FP32, tmp_path / "plain")
    model = language_model()
    with pytest.raises(SliceOverError):
        train(model, Tokens((8,)), compiled.model_copy(update={"stop_after_s": 1e-9}), tmp_path / "cut", seed=1)
    model = language_model()
    train(model, Tokens((8,)), compiled, tmp_path / "cut", seed=1)

    resumed = [p.detach() for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True))
    assert_close(resumed, plain, 1e-5)
    assert (model._compiled_call_impl, model.get_decoder()._compiled_call_impl) == (None, None)


def test_compiling_without_a_compiler_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)

    with pytest.raises(ConfigError, match="no-compiler") as caught:
        train(language_model(), Tokens((8,)), FP32.model_copy(update={"compile": True}), tmp_path, seed=1)
    assert caught.value.problems[0].where == "loop.compile"
    assert not list(tmp_path.iterdir())
