"""Adapters: start as nothing, train alone, merge into the same function."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from alignment.lora import LoraSettings, merged, save_adapter, with_lora  # noqa: E402
from alignment.model import new_model, weights_sha256  # noqa: E402
from curation.errors import ConfigError  # noqa: E402

IDS = torch.arange(2, 34).view(2, 16)


def tiny() -> torch.nn.Module:
    return new_model("160k", 64, {"pad": 0, "bos": 1, "eos": 2}, seed=3).eval()


def trained(model: torch.nn.Module) -> torch.nn.Module:
    """Five steps on next tokens; what has no gradient stays."""
    adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(5):
        model(input_ids=IDS, labels=IDS).loss.backward()
        adam.step()
        adam.zero_grad()
    return model


def test_a_fresh_adapter_changes_no_logit() -> None:
    before = tiny()(IDS).logits
    assert torch.equal(with_lora(tiny(), LoraSettings(rank=4))(IDS).logits, before)


def test_only_the_adapter_moves() -> None:
    model = with_lora(tiny(), LoraSettings(rank=4, alpha=8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = trained(model).state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if ".lora_" in name}
    assert len(moved) == 2 * 7 * 2  # A and B of seven linear layers in two blocks


def test_the_merged_model_is_the_adapters_model_and_the_adapter_is_kept(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    model = trained(with_lora(tiny(), LoraSettings(rank=4, alpha=8)))
    expected = model(IDS).logits
    assert (expected - tiny()(IDS).logits).abs().max() > 0.1
    save_adapter(model, tmp_path)
    again = PeftModel.from_pretrained(tiny(), tmp_path / "adapter")
    plain = merged(model)
    assert type(plain) is LlamaForCausalLM
    assert sorted(plain.state_dict()) == sorted(tiny().state_dict())
    torch.testing.assert_close(plain(IDS).logits, expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(again(IDS).logits, expected, atol=2e-6, rtol=0)


def test_the_same_seed_gives_the_same_adapter_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = with_lora(tiny(), LoraSettings(rank=4), seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert weights_sha256(first) == weights_sha256(with_lora(tiny(), LoraSettings(rank=4), seed=1))
    assert weights_sha256(first) != weights_sha256(with_lora(tiny(), LoraSettings(rank=4), seed=2))


def test_without_settings_nothing_happens(tmp_path: Path) -> None:
    model = tiny()
    assert with_lora(model, None) is model
    assert merged(model) is model
    save_adapter(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets"):
        with_lora(tiny(), LoraSettings(targets=("no_such_layer",)))


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"headwater\[lora\]"):
        with_lora(tiny(), LoraSettings())
