"""Models on disk and in memory: what is saved is loaded, padding changes nothing, damage is an error."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import full_disk
from safetensors.torch import load_file, save_file
from tiny import tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from alignment.model import (
    SIZES,
    RewardModel,
    last_token,
    load_model,
    new_model,
    parameters,
    positions,
    save_model,
    weights_sha256,
)
from curation.errors import ConfigError, DataContractError, StageError

IDS = {"pad": 0, "bos": 1, "eos": 2}


@pytest.fixture
def model() -> Any:
    return new_model("160k", 320, IDS, seed=3)


def rows(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows of 9, 5 and 1 real tokens, padded to 9 on one side."""
    generator = torch.Generator().manual_seed(0)
    ids, mask = torch.zeros(3, 9, dtype=torch.int64), torch.zeros(3, 9, dtype=torch.bool)
    for row, length in enumerate((9, 5, 1)):
        real = slice(9 - length, 9) if side == "left" else slice(0, length)
        ids[row, real] = torch.randint(3, 320, (length,), generator=generator)
        mask[row, real] = True
    return ids, mask


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_as_large_as_its_name_says(size: str) -> None:
    with torch.device("meta"):
        model = new_model(size, SIZES[size].vocabulary, IDS, seed=0)

    named = float(size[:-1]) * {"k": 1e3, "m": 1e6}[size[-1]]
    assert isinstance(model, LlamaForCausalLM)
    assert parameters(model) == pytest.approx(named, rel=0.15)


def test_the_seed_alone_decides_the_initial_weights() -> None:
    torch.manual_seed(123)
    first = weights_sha256(new_model("160k", 320, IDS, seed=3))
    torch.manual_seed(456)
    before = torch.get_rng_state()

    assert weights_sha256(new_model("160k", 320, IDS, seed=3)) == first
    assert weights_sha256(new_model("160k", 320, IDS, seed=4)) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_are_normal_with_the_stated_deviation(model: Any) -> None:
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05), name
            assert abs(float(weight.detach().mean())) < 0.002, name
        else:
            assert torch.equal(weight, torch.ones_like(weight)), name


def test_a_size_that_does_not_exist_is_named_with_a_near_one() -> None:
    with pytest.raises(ConfigError, match="did you mean `124m`"):
        new_model("124", 320, IDS, seed=0)


def test_what_is_saved_is_loaded_by_us_and_by_transformers(model: Any, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    save_model(model, tokenizer, tmp_path)

    assert weights_sha256(load_model(tmp_path)) == weights_sha256(model)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert weights_sha256(theirs) == weights_sha256(model)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()
    assert theirs.config.pad_token_id == 0
    assert theirs.config.eos_token_id == 2


def test_the_hash_is_the_one_written_out_by_hand() -> None:
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.copy_(torch.tensor([0.5]))
    content = b"bias\x00(1,)\x00torch.float32\x00" + bytes.fromhex("0000003f")
    content += b"weight\x00(1, 2)\x00torch.float32\x00" + bytes.fromhex("0000803f000000c0")

    assert weights_sha256(model) == hashlib.sha256(content).hexdigest()


def test_one_changed_bit_changes_the_hash(model: Any) -> None:
    before = weights_sha256(model)
    with torch.no_grad():
        weight = model.model.layers[1].mlp.up_proj.weight
        weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(1.0))
    assert weights_sha256(model) != before


def test_a_folder_without_a_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-model") as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_model_with_a_missing_weight_is_refused_instead_of_filled_with_random_numbers(
    model: Any, tmp_path: Path
) -> None:
    save_model(model, None, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})

    with pytest.raises(ConfigError, match=r"1 weights are missing, the first is `model.layers.1.mlp.up_proj.weight`"):
        load_model(tmp_path)


def test_a_cut_model_file_is_a_clear_error(model: Any, tmp_path: Path) -> None:
    save_model(model, None, tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ConfigError, match="no-model"):
        load_model(tmp_path)


def test_a_full_disk_is_a_clear_error_for_either_kind_of_model(model: Any, tmp_path: Path) -> None:
    with full_disk(100_000):
        with pytest.raises(StageError, match="model-not-written") as caught:
            save_model(model, None, tmp_path)
        with pytest.raises(StageError, match="model-not-written"):
            RewardModel.from_causal(model).save(tmp_path)
    assert caught.value.problems[0].where == str(tmp_path)


def test_position_and_last_token_are_found_on_either_side() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]], dtype=torch.bool)

    assert last_token(mask).tolist() == [3, 1, 3, 3]
    assert positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 2, 3], [0, 0, 0, 0]]


def test_a_reward_does_not_depend_on_the_side_of_the_padding_nor_on_its_neighbours(model: Any) -> None:
    reward = RewardModel.from_causal(model, seed=1).eval()
    with torch.no_grad():
        right, left = reward(*rows("right")), reward(*rows("left"))
        ids, mask = rows("right")
        alone = torch.cat([reward(ids[r : r + 1, :n], mask[r : r + 1, :n]) for r, n in enumerate((9, 5, 1))])

    assert right.shape == (3,)
    torch.testing.assert_close(left, right, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, right, atol=1e-5, rtol=0)
    assert len(set(right.tolist())) == 3


def test_a_reward_is_the_head_at_the_last_real_token(model: Any) -> None:
    reward = RewardModel.from_causal(model, seed=1).eval()
    with torch.no_grad():
        reward.head.bias.fill_(0.25)
        reward.gain.fill_(2.0)
        reward.bias.fill_(-1.0)
        ids, mask = rows("right")
        hidden = model.model(input_ids=ids[1:2, :5]).last_hidden_state[0, 4]
        raw = float(hidden @ reward.head.weight[0]) + 0.25

        assert float(reward.raw(ids, mask)[1]) == pytest.approx(raw, abs=1e-5)
        assert float(reward(ids, mask)[1]) == pytest.approx(2 * raw - 1, abs=1e-5)
        assert reward.per_token(ids, mask).shape == (3, 9)


def test_the_head_starts_with_the_stated_deviation_and_its_own_seed(model: Any) -> None:
    heads = torch.cat([RewardModel(model.get_decoder(), seed).head.weight.detach() for seed in range(50)])

    assert float(heads.std()) == pytest.approx(65**-0.5, rel=0.05)
    assert torch.equal(heads[7:8], RewardModel(model.get_decoder(), 7).head.weight)
    assert not torch.equal(heads[7], heads[8])


def test_a_saved_reward_model_gives_the_same_rewards(model: Any, tmp_path: Path) -> None:
    reward = RewardModel.from_causal(model, seed=1).eval()
    with torch.no_grad():
        reward.head.bias.fill_(0.25)
        reward.gain.fill_(2.0)
        reward.bias.fill_(-1.0)
    reward.save(tmp_path, tiny_tokenizer())
    found = RewardModel.load(tmp_path).eval()

    assert weights_sha256(found) == weights_sha256(reward)
    with torch.no_grad():
        assert torch.equal(found(*rows("right")), reward(*rows("right")))
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LlamaModel"]
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token == tiny_tokenizer().pad_token


@pytest.mark.parametrize("damage", ["no head", "cut head", "other head", "incomplete head"])
def test_a_damaged_reward_model_is_a_clear_error(model: Any, tmp_path: Path, damage: str) -> None:
    RewardModel.from_causal(model).save(tmp_path)
    path = tmp_path / "reward_head.safetensors"
    if damage == "no head":
        path.unlink()
    elif damage == "cut head":
        path.write_bytes(path.read_bytes()[:50])
    else:
        head = load_file(path)
        head["weight"] = torch.zeros(1, 7)
        save_file(head if damage == "other head" else {"bias": head["bias"]}, path)

    with pytest.raises(DataContractError, match="no-reward-model"):
        RewardModel.load(tmp_path)
