"""Detoxify as the second stage of the cascade, in the shipped encoder's place: from a local folder, never fetched.

The folder is a Hugging Face snapshot of a published model (unitary/toxic-bert, unitary/unbiased-toxic-roberta,
unitary/multilingual-toxic-xlm-roberta): config.json, model.safetensors and the tokenizer's files. Weights come from
safetensors only, because a pickle can run code.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.base import sha256_of
from curation.errors import ConfigError, Problem

MAX_TOKENS = 256  # word pieces; windows have at most 60 words
BATCH = 32
LABELS = ("toxic", "toxicity")  # what the published models call their first output


def missing() -> str | None:
    """Why a Detoxify model cannot run here, as a sentence for the notes; None when it can."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return f"Detoxify needs the package `{package}` (extra `detoxify`): the shipped encoder judges in its place"
    return None


class Detoxify:
    """Toxicity probabilities of short texts."""

    def __init__(self, folder: str) -> None:
        """Raises ConfigError: the folder lacks a file, or the model has no toxicity output."""
        path = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (path / name).is_file():
                raise ConfigError(Problem("no-model", f"`{name}` is missing", folder, "a local Detoxify snapshot"))
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.path = path
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ).eval()
        names = {str(name).lower(): int(index) for index, name in self._model.config.id2label.items()}
        found = [names[label] for label in LABELS if label in names]
        if not found:
            raise ConfigError(
                Problem("bad-model", f"outputs {sorted(names)}", folder, f"an output called one of {LABELS}")
            )
        self._output = found[0]

    def resource(self) -> dict[str, str]:
        """The manifest's row."""
        return {
            "name": f"detoxify/{self.path.name}",
            "version": "local",
            "sha256": sha256_of(self.path / "model.safetensors"),
            "kind": "model",
        }

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """P(toxic) of each text."""
        import torch

        parts: list[Any] = []
        for at in range(0, len(texts), BATCH):
            batch = self._tokenizer(
                list(texts[at : at + BATCH]), return_tensors="pt", truncation=True, padding=True, max_length=MAX_TOKENS
            )
            with torch.inference_mode():
                parts.append(torch.sigmoid(self._model(**batch).logits[:, self._output]).double().numpy())
        return np.concatenate(parts) if parts else np.zeros(0)
