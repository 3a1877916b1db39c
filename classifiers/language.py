"""Language identification: texts to one language label and its probability each, by a fastText model on disk.

In: a batch of the measure pass. Out: the signals of `curation/filters/language.py`. Never fetches anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.errors import ConfigError, Problem
from curation.filters.base import DocumentBatch
from curation.filters.language import LanguageSettings

F32 = npt.NDArray[np.float32]

SHIPPED = Path(__file__).parent / "weights" / "lid.176.ftz"
SHIPPED_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
UNKNOWN = "und"  # ISO 639-2: undetermined
LABEL = "__label__"
# A text is judged by three pieces of this many characters: its beginning, middle and end. On 26,660 documents
# (known_truth, 41.7 MB, one core) that runs at 18 MB/s against 9 for whole texts, separates mixed documents better
# (0.990 against 0.958 of them scored below 0.65; the first 1,000 characters alone: 0.719) and flags fewer English ones
# (372 of 26,077 against 403). See classifiers/weights/lid.176.md.
PIECE_CHARS = 300


class LanguageClassifier:
    """One fastText language model. `sha256` names it in the manifest."""

    def __init__(self, path: Path, sha256: str | None = None) -> None:
        """Read the model at `path`.

        Args:
            sha256: what the file's hash must be; None takes any file.

        Raises:
            ConfigError: the file is missing, is not the one expected, or is no fastText model.
        """
        self.path = path
        self.name = path.name
        self.sha256 = _sha256(path)
        if sha256 is not None and self.sha256 != sha256:
            raise ConfigError(
                Problem("wrong-model", f"the language model has sha256 {self.sha256}", str(path), f"sha256 {sha256}")
            )
        self._model = _load(path)

    @classmethod
    def shipped(cls) -> LanguageClassifier:
        """lid.176.ftz: 176 languages."""
        return cls(SHIPPED, SHIPPED_SHA256)

    def predict(self, texts: Sequence[str]) -> tuple[list[str], F32]:
        """The most likely label of each text without its prefix, and its probability in [0, 1], shape (len(texts),).

        A text in which the model knows nothing has `UNKNOWN` and 0.
        """
        if not texts:
            return [], np.zeros(0, np.float32)
        # The batch call of the C++ binding: `predict` of the Python class makes an array in a way numpy 2 refuses.
        labels, scores = self._model.f.multilinePredict([sample(text) + "\n" for text in texts], 1, 0.0, "strict")
        found = [str(each[0]).removeprefix(LABEL) if len(each) else UNKNOWN for each in labels]
        # The softmax over 176 leaves sums to a little more than one in float32.
        values = [min(1.0, float(each[0])) if len(each) else 0.0 for each in scores]
        return found, np.array(values, np.float32)


def sample(text: str) -> str:
    """What the model reads of a text: all of a short one, three pieces of a long one, on one line."""
    if len(text) > 3 * PIECE_CHARS:
        middle = (len(text) - PIECE_CHARS) // 2
        text = f"{text[:PIECE_CHARS]} {text[middle : middle + PIECE_CHARS]} {text[-PIECE_CHARS:]}"
    return text.replace("\n", " ")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            Problem("no-model", f"cannot read the language model: {error.strerror}", str(path), "a fastText model file")
        ) from error


def _load(path: Path) -> Any:
    import fasttext

    try:
        return fasttext.load_model(str(path))
    except ValueError as error:  # what the binding raises for a file in another format
        raise ConfigError(Problem("bad-model", f"not a fastText model: {error}", str(path))) from error


@lru_cache(maxsize=4)
def classifier(path: str | None = None, sha256: str | None = None) -> LanguageClassifier:
    """The model at `path`, or the shipped one; loaded once in a process.

    Raises:
        ConfigError: as `LanguageClassifier`.
    """
    return LanguageClassifier.shipped() if path is None else LanguageClassifier(Path(path), sha256)


def measure(batch: DocumentBatch, settings: LanguageSettings) -> dict[str, pa.Array]:
    """The signals `lang`, `score` and `wanted` of a batch, for the measure pass."""
    labels, scores = classifier(settings.model, settings.model_sha256).predict(batch.texts.strings())
    languages = set(settings.languages)
    is_wanted = np.array([label in languages for label in labels], np.bool_)
    return {
        "lang": pa.array(labels, pa.string()),
        "score": pa.array(scores),
        "wanted": pa.array(np.where(is_wanted, scores, np.float32(0))),
    }


def resources(settings: LanguageSettings) -> list[dict[str, str]]:
    """The manifest's row of the model in use; its version is the name of the file."""
    model = classifier(settings.model, settings.model_sha256)
    return [{"name": "language", "version": model.name, "sha256": model.sha256, "kind": "model"}]
