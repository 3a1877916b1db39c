"""What every classifier shares: where shipped weights lie, that they are what they claim to be, and how they are named.

Nothing here unpickles: weights are fastText files, JSON, ONNX and safetensors.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from curation.errors import ConfigError, Problem
from curation.registry import Registry

WEIGHTS = Path(__file__).resolve().parent / "weights"


@dataclass(frozen=True)
class ClassifierInfo:
    """One line of `headwater list classifiers`."""

    summary: str
    weights: str  # file below classifiers/weights, "" when the user brings them


CLASSIFIERS: Registry[ClassifierInfo] = Registry("classifier")
CLASSIFIERS.add("toxicity", ClassifierInfo("fastText words and bigrams over windows, calibrated", "toxicity.json"))
CLASSIFIERS.add("encoder", ClassifierInfo("MiniLM: toxic, hate, counter-speech; the role of a mention", "encoder.json"))
CLASSIFIERS.add("context", ClassifierInfo("role of every mention: use or one of five kinds of mention", "context.json"))
CLASSIFIERS.add(
    "gate", ClassifierInfo("which documents the encoder reads, from the first stage and lists", "gate.json")
)
CLASSIFIERS.add("detoxify", ClassifierInfo("toxicity of the second stage, when its weights are at hand", ""))


@lru_cache(maxsize=16)
def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_card(path: Path) -> dict[str, Any]:
    """The JSON beside a model: calibration, thresholds, metrics, and the sha256 of the weights it belongs to.

    Raises:
        ConfigError: unreadable, or a file it names has another sha256 than it says.
    """
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(Problem("no-model", f"model card cannot be read: {error}", str(path))) from error
    for name, expected in sorted(card.get("files", {}).items()):
        file = path.parent / name
        found = sha256_of(file) if file.is_file() else "missing"
        if found != expected:
            raise ConfigError(
                Problem(
                    "wrong-weights",
                    f"sha256 of `{name}` is {found}",
                    str(path),
                    expected,
                    "the weights are not the ones this card describes: fetch them again, or run `headwater fit`",
                )
            )
    return card


def resource(name: str, card: dict[str, Any], path: Path) -> dict[str, str]:
    """The manifest's row of a model: the sha256 covers the card, and through it every file the card names."""
    return {"name": name, "version": str(card.get("version", "0")), "sha256": sha256_of(path), "kind": "model"}
