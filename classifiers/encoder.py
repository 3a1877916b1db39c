"""The small encoder that reads windows in context: text labels, and the role of every mention. ONNX, no torch.

In: window texts with the places of their mentions. Out: logits of TEXT_HEADS per text and of ROLES per mention.
One text goes through at a time: the activations of an int8 model are scaled per call, so in a batch a text's answer
would depend on its neighbours, and with them on shards and workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers.base import load_card, resource
from classifiers.roles import ROLES
from classifiers.spelled import close_up, moved
from classifiers.tokens import Tokens
from classifiers.windows import Windows, token_at
from curation.errors import ConfigError, Problem
from curation.lexicon.matcher import Hits

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
CLS, SEP = 101, 102  # of BERT's uncased vocabulary
MAX_PIECES = 128  # positions of the exported model; a window of 60 words has about 75
# What a window counts as that nobody asked the encoder about, because the first stage found nothing in it: clean.
UNREAD = np.array([-5.0, -5.0, -4.0])


class Encoder:
    """A loaded model. Thread-safe; one processor thread a call, because a job runs one worker per core."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        """Raises ConfigError: a file that is missing or is not an encoder of ours."""
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model.read_bytes(), sess_options=options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        except Exception as error:
            raise ConfigError(
                Problem("no-model", f"the encoder cannot be loaded: {type(error).__name__}: {error}", str(model))
            ) from error

    @classmethod
    def load(cls, card_path: Path) -> tuple[Encoder, dict[str, Any], dict[str, str]]:
        """The encoder of a card whose sha256 are checked, the card, and the manifest's row."""
        card = load_card(card_path)
        model, tokenizer = (card_path.parent / card[key] for key in ("model", "tokenizer"))
        return cls(model, tokenizer), card, resource("encoder", card, card_path)

    def _known(self, word: str) -> bool:
        """Whether the vocabulary has `word` as one piece."""
        return self._tokenizer.token_to_id(word) is not None

    def read(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[F64, F64]:
        """Logits of `text`, shape (3,), and of each span [start, end) in code points, shape (len(spans), 6).

        A span beyond the model's length, or one that tokenises to nothing, takes the mean over the whole text. Words
        spelt out letter by letter are read as words.
        """
        text, gone = close_up(text, self._known)
        if gone:
            spans = [(moved(start, gone), moved(end, gone)) for start, end in spans]
        coded = self._tokenizer.encode(text, add_special_tokens=False)
        ids = np.array([[CLS, *coded.ids[: MAX_PIECES - 2], SEP]], np.int64)
        whole, pieces = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        roles = np.zeros((len(spans), len(ROLES)))
        if spans:
            offsets = np.array(coded.offsets[: MAX_PIECES - 2]).reshape(-1, 2)
            for k, (start, end) in enumerate(spans):
                inside = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start)) + 1
                chosen = pieces[0, inside] if len(inside) else pieces[0]
                roles[k] = chosen.astype(np.float64).mean(axis=0)
        return whole[0].astype(np.float64), roles


@dataclass(frozen=True)
class Reading:
    """What the encoder said of a batch's windows and mentions."""

    asked: Mask  # per window
    text: F64  # (windows, 3) logits; UNREAD where not asked
    role: F64  # (hits, 6) log-probabilities; uniform where not asked
    failed: dict[int, str]  # row → why the encoder gave nothing


def unread(windows: int, hits: int) -> Reading:
    """The reading of a batch of which nothing was asked."""
    return Reading(
        np.zeros(windows, bool), np.tile(UNREAD, (windows, 1)), np.full((hits, len(ROLES)), -np.log(len(ROLES))), {}
    )


class Reads(Protocol):
    """Whatever reads as an encoder does."""

    def read(self, text: str, spans: Sequence[tuple[int, int]]) -> tuple[F64, F64]: ...


def read_windows(encoder: Reads, texts: pa.Array, tokens: Tokens, windows: Windows, hits: Hits, asked: Mask) -> Reading:
    """Ask about the windows marked `asked`, each with its mentions. A row whose call fails is named, not guessed."""
    found = unread(len(windows), len(hits))
    found.asked[:] = asked
    at = np.searchsorted(windows.first, token_at(tokens, hits.row, hits.start), side="right") - 1
    by_window = np.argsort(at, kind="stable")
    ordered = at[by_window]
    cached, text = -1, ""
    for w in np.flatnonzero(asked).tolist():
        row = int(windows.row[w])
        if row != cached:
            cached, text = row, texts[row].as_py()
        start, end = window_span(text, tokens, windows, w)
        mine = by_window[np.searchsorted(ordered, w) : np.searchsorted(ordered, w, side="right")]
        spans = [(int(hits.start[m]) - start, int(hits.end[m]) - start) for m in mine]
        try:
            logits, roles = encoder.read(text[start:end], spans)
        except Exception as error:  # noqa: BLE001 - the declared classifier border: the row is quarantined by name
            found.failed[row] = f"encoder: {type(error).__name__}"
            continue
        found.text[w] = logits
        if len(mine):
            shifted = roles - roles.max(axis=1, keepdims=True)
            found.role[mine] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def window_span(text: str, tokens: Tokens, windows: Windows, w: int) -> tuple[int, int]:
    """The code points of window `w`, with the punctuation around it that tokens leave out: quotes and stops matter."""
    start = int(tokens.start[windows.first[w]])
    end = int(tokens.end[windows.last[w] - 1])
    return with_marks(text, start, end)


def with_marks(text: str, start: int, end: int) -> tuple[int, int]:
    """The span widened over adjoining signs that are neither letters, digits nor white space."""
    while start > 0 and not text[start - 1].isspace() and not text[start - 1].isalnum():
        start -= 1
    while end < len(text) and not text[end].isspace() and not text[end].isalnum():
        end += 1
    return start, end
