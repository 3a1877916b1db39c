"""LoRA adapters for any stage (Hu 2021, arXiv 2106.09685): wrap before training, merge before saving.

    model = with_lora(load_model(path), settings.lora)
    ...train...
    save_adapter(model, folder)
    save_model(merged(model), tokenizer, folder)

Without settings every function leaves the model as it is. peft comes with the extra `lora`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from curation.errors import ConfigError, Problem
from curation.settings import Settings


class LoraSettings(Settings):
    """How an adapter is shaped. Its dropout is 0, as everywhere in these stages."""

    rank: int = Field(default=16, ge=1)  # Dettmers 2023 (arXiv 2305.14314), App. B.2: the rank hardly matters
    alpha: int = Field(default=32, ge=1)  # updates are scaled by alpha / rank; twice the rank is peft's own advice
    # Dettmers 2023, section 4: adapters on all linear layers are what it takes to match full fine-tuning.
    targets: str | tuple[str, ...] = "all-linear"


def with_lora(model: Any, settings: LoraSettings | None, seed: int = 0) -> Any:
    """`model` with a fresh adapter on it and everything else frozen; `model` itself when there are no settings.

    The adapter starts as the zero function: the model's outputs do not change.

    Args:
        model: a Hugging Face model; its linear layers are replaced in place.
        seed: of the adapter's initial weights.

    Raises:
        ConfigError: peft is not installed, or the model has no layer of that name.
    """
    if settings is None:
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        hint = "pip install 'headwater[lora]'"
        raise ConfigError(Problem("no-peft", "`lora` needs peft", "lora", "the extra `lora`", hint)) from None
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, target_modules=targets, bias="none"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going away
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            first = str(error).splitlines()[0]
            raise ConfigError(Problem("no-such-layer", f"cannot place adapters: {first}", "lora.targets")) from None


def merged(model: Any) -> Any:
    """The plain model with its adapter's update added to its weights; `model` itself when it has no adapter.

    The adapter is gone from `model` afterwards: save it first.
    """
    return model.merge_and_unload() if _has_adapter(model) else model


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter in peft's format to `folder/adapter`; nothing when the model has none."""
    if _has_adapter(model):
        model.save_pretrained(folder / "adapter", save_embedding_layers=False)


def _has_adapter(model: Any) -> bool:
    return hasattr(model, "peft_config") and hasattr(model, "merge_and_unload")
