"""Log-probabilities of responses: only what is needed goes through the head, and the reference's lie in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel  # noqa: E402

from alignment.loop import LoopSettings  # noqa: E402
from alignment.lora import LoraSettings, with_lora  # noqa: E402
from alignment.losses import response_log_prob  # noqa: E402
from alignment.model import new_model, positions  # noqa: E402
from alignment.reference import (  # noqa: E402
    by_length,
    example_log_probs,
    examples_sha256,
    kept_log_probs,
    response_log_probs,
    response_logits,
)
from alignment.rows import Example, pad  # noqa: E402
from curation.errors import DataContractError, StageError  # noqa: E402

FP32 = LoopSettings(precision="fp32")
EXAMPLES = [
    Example((5, 6, 7), (8, 9, 2)),
    Example((10,), (11, 12, 13, 14, 15, 16, 2)),
    Example((20, 21, 22, 23, 24, 25, 26, 27), (28,)),
    Example((30, 31), (32, 33)),
]
OF = {"weights_sha256": "ab", "examples_sha256": "cd"}


def llama() -> Any:
    return new_model("160k", 64, {"pad": 0, "bos": 1, "eos": 2}, seed=1)


def gpt2() -> Any:
    torch.manual_seed(2)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=2)).eval()


def capped() -> Any:
    """Gemma 2 caps its logits after the head: what calls the head by itself gets other numbers."""
    torch.manual_seed(3)
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.5,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config)


def adapted() -> Any:
    pytest.importorskip("peft")
    return with_lora(llama(), LoraSettings(rank=2))


def compiled() -> Any:
    return torch.compile(llama(), backend="eager")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("build", [llama, gpt2, capped, adapted, compiled])
def test_response_positions_alone_give_the_plain_formulas_values_and_gradients(build: Any, side: Any) -> None:
    batch = pad(EXAMPLES, 0, side)
    found, gradients = [], []
    for plain in (True, False):
        model = build()
        if plain:
            called = model(input_ids=batch.ids, attention_mask=batch.mask, position_ids=positions(batch.mask))
            value = response_log_prob(called.logits, batch.ids, batch.response)
        else:
            value = response_log_probs(model, batch.ids, batch.mask, batch.response)
        (value * torch.tensor([1.0, -2.0, 0.5, 3.0])).sum().backward()
        found.append(value.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)
    assert gradients[1].keys() == gradients[0].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=1e-4, msg=name)


def test_only_the_positions_before_response_tokens_go_through_the_head() -> None:
    model, batch, seen = llama(), pad(EXAMPLES, 0), []
    model.lm_head.register_forward_hook(lambda _, args, out: seen.append((args[0].shape, out.shape)))
    logits = response_logits(model, batch.ids, batch.mask, batch.response)
    assert seen == [((13, 64), (13, 64))]
    assert int(batch.response.sum()) == 13
    assert batch.ids.shape == (4, 9)
    assert logits.shape == (13, 64)
    assert model(input_ids=batch.ids).logits.shape == (4, 9, 64)  # and the model is as it was


def test_a_model_that_fails_is_left_without_the_hook() -> None:
    model, batch = llama(), pad(EXAMPLES, 0)
    with pytest.raises(IndexError):
        response_logits(model, batch.ids + 100, batch.mask, batch.response)
    assert model(input_ids=batch.ids).logits.shape == (4, 9, 64)


def test_padding_and_company_change_nothing() -> None:
    model = llama()
    alone = torch.stack([_one(model, example, "right") for example in EXAMPLES])
    for side in ("left", "right"):
        batch = pad(EXAMPLES, 0, side, multiple=16)
        with torch.no_grad():
            found = response_log_probs(model, batch.ids, batch.mask, batch.response)
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(example_log_probs(model, EXAMPLES, 0, FP32), alone, atol=1e-5, rtol=0)
    backwards = example_log_probs(model, EXAMPLES[::-1], 0, FP32)
    torch.testing.assert_close(backwards.flip(0), alone, atol=1e-5, rtol=0)


def _one(model: Any, example: Example, side: Any) -> Any:
    batch = pad([example], 0, side)
    with torch.no_grad():
        return response_log_probs(model, batch.ids, batch.mask, batch.response)[0]


def test_rows_of_like_length_come_together_and_none_is_lost() -> None:
    assert by_length([5, 1, 3, 1, 9, 2], 4) == [[1, 3, 5, 2], [0, 4]]
    assert by_length([], 4) == []


def test_the_hash_of_examples_knows_where_a_prompt_ends() -> None:
    assert examples_sha256([Example((1, 2), (3,))]) != examples_sha256([Example((1,), (2, 3))])
    assert examples_sha256(EXAMPLES) != examples_sha256(EXAMPLES[::-1])


# The file


def unasked() -> Any:
    pytest.fail("computed again")


def test_kept_numbers_are_read_back_and_not_computed_again(tmp_path: Path) -> None:
    file = tmp_path / "stage" / "reference.safetensors"
    values = torch.tensor([-1.5, -2.25, -3.0])
    assert torch.equal(kept_log_probs(file, OF, "sft", lambda: values), values)
    assert torch.equal(kept_log_probs(file, OF, "elsewhere", unasked), values)
    assert [path.name for path in file.parent.iterdir()] == ["reference.safetensors"]


def test_numbers_of_another_model_or_other_rows_are_refused_with_both_hashes(tmp_path: Path) -> None:
    file = tmp_path / "reference.safetensors"
    kept_log_probs(file, OF, "sft", lambda: torch.zeros(3))
    with pytest.raises(DataContractError) as caught:
        kept_log_probs(file, {"weights_sha256": "ef", "examples_sha256": "gh"}, "base", unasked)
    assert [(p.code, p.message, p.expected) for p in caught.value.problems] == [
        ("stale-reference", "`weights_sha256` was 'ab'", "'ef'"),
        ("stale-reference", "`examples_sha256` was 'cd'", "'gh'"),
    ]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "reference.safetensors"
    kept_log_probs(file, OF, "sft", lambda: torch.arange(100.0))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes({"cut": bytes(data[:-8]), "flipped": bytes(data), "empty": b""}[damage])
    with pytest.raises(DataContractError, match="corrupt-reference"):
        kept_log_probs(file, OF, "elsewhere", unasked)


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alignment.reference.save_file", full)
    with pytest.raises(StageError, match="No space left"):
        kept_log_probs(tmp_path / "reference.safetensors", OF, "sft", lambda: torch.zeros(3))
    assert list(tmp_path.iterdir()) == []
