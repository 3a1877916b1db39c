"""Causal language models and reward models: named sizes, building, loading, saving, hashing.

A model on disk is a Hugging Face directory (config.json, model.safetensors, tokenizer files).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from alignment import processes
from curation.errors import ConfigError, DataContractError, Problem, StageError, unknown_name

AUTO_CAUSAL: Any = AutoModelForCausalLM  # its factory methods are half-typed
LOGGING: Any = logging
REWARD_HEAD = "reward_head.safetensors"

LOGGING.disable_progress_bar()  # a bar for every model read and written: hundreds of lines in a log of an experiment


@dataclass(frozen=True)
class Size:
    """One named size: a Llama with tied embeddings, SwiGLU and RoPE."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int  # the size the name counts with; a tokenizer may have another
    context: int


# Intermediate sizes are 8/3 of the hidden one (Shazeer 2020, arXiv 2002.05202, §3), rounded to a multiple of 8; layers
# and widths of 124m and 350m are GPT-2's (Radford 2019, table 2); 3m is what the CPU throughput is stated for.
SIZES = {
    "160k": Size(64, 2, 2, 176, 1024, 256),
    "1m": Size(128, 3, 4, 344, 4096, 256),
    "3m": Size(192, 5, 6, 512, 4096, 256),
    "10m": Size(320, 6, 5, 864, 8192, 512),
    "30m": Size(512, 8, 8, 1376, 8192, 512),
    "124m": Size(768, 12, 12, 2048, 50304, 1024),
    "350m": Size(1024, 24, 16, 2688, 50304, 1024),
}


def named_size(name: str) -> Size:
    """The size of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SIZES:
        raise ConfigError(unknown_name("model size", name, SIZES, "pretrain.size"))
    return SIZES[name]


def new_model(size: str | Size, vocabulary: int, ids: dict[str, int], seed: int, context: int | None = None) -> Any:
    """A freshly initialised `LlamaForCausalLM` (normal, standard deviation 0.02) in fp32.

    Args:
        size: a name of `SIZES`, or a size of one's own.
        vocabulary: rows of the embedding; at least the tokenizer's length.
        ids: `pad`, `bos`, `eos` token ids.
        seed: of the initial weights; the same seed, size and vocabulary give the same weights in every arm.
        context: longest sequence, in tokens; None: the size's own.

    Raises:
        ConfigError: no such size.
    """
    named = named_size(size) if isinstance(size, str) else size
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=named.hidden,
        intermediate_size=named.intermediate,
        num_hidden_layers=named.layers,
        num_attention_heads=named.heads,
        num_key_value_heads=named.heads,
        max_position_embeddings=context or named.context,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=ids["pad"],
        bos_token_id=ids["bos"],
        eos_token_id=ids["eos"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AUTO_CAUSAL.from_config(config, dtype=torch.float32, attn_implementation="sdpa")


def load_model(path: str | Path) -> Any:
    """A causal language model in fp32 from a local Hugging Face directory, or from the hub by name.

    Raises:
        ConfigError: there is no such directory or name, or it holds no causal language model.
    """
    try:
        model, info = AUTO_CAUSAL.from_pretrained(
            str(path), dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            Problem("no-model", f"cannot load a language model: {first}", str(path), "a Hugging Face model directory")
        ) from None
    if missing := sorted(info["missing_keys"]):
        # transformers would fill these with random numbers and a warning.
        message = f"{len(missing)} weights are missing, the first is `{missing[0]}`"
        raise ConfigError(Problem("no-model", message, str(path), "all weights of a causal language model"))
    return model


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | None, folder: Path) -> None:
    """Write the Hugging Face directory that `load_model` and `AutoModelForCausalLM.from_pretrained` read.

    Raises:
        StageError: the disk is full or cannot be written.
    """
    with _written_once(folder):
        if processes.first():
            model.save_pretrained(folder)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)


@contextmanager
def _written_once(folder: Path) -> Iterator[None]:
    """A write by the first process that the others wait for; one that fails is a `StageError` naming the folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        hint = "free some space and run the same command again: it goes on from its last checkpoint"
        raise StageError(
            Problem("model-not-written", f"cannot write: {str(error).splitlines()[0]}", str(folder), hint=hint)
        ) from None
    processes.wait()


def weights_sha256(model: nn.Module) -> str:
    """sha256 over the names, shapes, types and bytes of every tensor of the state, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class RewardModel(nn.Module):
    """A scalar for each sequence: the backbone's last hidden state at the last real token, through one linear head.

    The head starts at N(0, 1/(d + 1)) with bias 0 (Stiennon 2020, lm-human-preferences: standard deviation
    1/sqrt(d + 1)). `gain` and `bias` normalise rewards on a reference set (Ziegler 2019 §2.2) and are stored with it.
    """

    gain: Tensor
    bias: Tensor

    def __init__(self, backbone: Any, seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone  # the decoder without its language-model head
        width = int(backbone.config.hidden_size)
        self.head = nn.Linear(width, 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nn.init.normal_(self.head.weight, std=(width + 1) ** -0.5)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("bias", torch.zeros(()))

    @classmethod
    def from_causal(cls, model: Any, seed: int = 0) -> RewardModel:
        """A reward model on a copy of nothing: it takes over the decoder of `model`."""
        return cls(model.get_decoder(), seed)

    def raw(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(rows,) scores before normalisation; `ids`, `mask` (rows, tokens), padding on either side."""
        return self.per_token(ids, mask).gather(1, last_token(mask).unsqueeze(1)).squeeze(1)

    def per_token(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(rows, tokens) the head's output at every position: what a critic made from a reward model needs."""
        hidden = self.backbone(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):  # a reward in bf16 has three digits: too coarse for PPO
            return torch.as_tensor(self.head(hidden.to(self.head.weight.dtype))).squeeze(-1).float()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(rows,) normalised rewards."""
        return self.raw(ids, mask) * self.gain + self.bias

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> None:
        """Write backbone (a Hugging Face directory) and `reward_head.safetensors`.

        Raises:
            StageError: the disk is full or cannot be written.
        """
        head = {"weight": self.head.weight, "bias": self.head.bias, "gain": self.gain, "offset": self.bias}
        with _written_once(folder):
            if processes.first():
                self.backbone.save_pretrained(folder)
                if tokenizer is not None:
                    tokenizer.save_pretrained(folder)
                save_file(
                    {name: value.detach().cpu().contiguous() for name, value in head.items()}, folder / REWARD_HEAD
                )

    @classmethod
    def load(cls, folder: str | Path) -> RewardModel:
        """Read what `save` wrote.

        Raises:
            DataContractError: a file is missing or damaged.
        """
        try:
            model = cls(AutoModel.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="sdpa"))
            head = load_file(Path(folder) / REWARD_HEAD)
            with torch.no_grad():
                model.head.weight.copy_(head["weight"])
                model.head.bias.copy_(head["bias"])
                model.gain.copy_(head["gain"])
                model.bias.copy_(head["offset"])
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            first = str(error).splitlines()[0]
            raise DataContractError(Problem("no-reward-model", f"not a reward model: {first}", str(folder))) from None
        return model


def positions(mask: Tensor) -> Tensor:
    """(rows, tokens) position of each real token counted from the row's first one; padding gets 0."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def last_token(mask: Tensor) -> Tensor:
    """(rows,) index of the last real token, whichever side the padding is on."""
    return mask.shape[1] - 1 - mask.long().flip(1).argmax(1)


def parameters(model: nn.Module) -> int:
    """How many numbers the model learns, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def read_json(path: Path) -> Any:
    """The content of a JSON file of a stage.

    Raises:
        DataContractError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataContractError(Problem("unreadable", f"cannot read: {error}", str(path))) from None
