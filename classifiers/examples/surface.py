"""Light variation of a filled frame: case, end mark, quotation marks, slips, disguise, emoji, neutral text around it.

Everything is drawn without a look at the label, so that no surface tells it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.examples.filling import Piece

# Shares of the variations; chosen by eye so that about half of all texts stay as written.
LOWER, UPPER, NO_END, SLIP, DISGUISE, EMOJI, STRAIGHT = 0.16, 0.02, 0.12, 0.10, 0.04, 0.06, 0.5
UNQUOTED = 0.2  # quotation marks left out: they must not become the sign of a mention
AROUND = (0.48, 0.20, 0.10, 0.07, 0.05, 0.03, 0.02, 0.02, 0.02, 0.01)  # chance of 0, 1, … neutral sentences around
SLIP_KINDS = (0.35, 0.25, 0.15, 0.15, 0.10)  # swapped, lost, doubled, digits, spaced out
EMOJIS = ("😂", "🙄", "😡", "🤷", "💯", "👍", "😅", "🔥", "😢", "👀", "🤔", "❤️")
SWAPS = {"a": "4", "e": "3", "i": "1", "o": "0", "s": "5"}
MIN_DISGUISED = 5  # letters: shorter terms are not told from other words once a letter is gone


@dataclass(frozen=True)
class Surface:
    """The variations of one example; `seed` places slips."""

    case: str
    no_end: bool
    slip: bool
    disguise: str
    emoji: str
    straight: bool
    unquoted: bool
    before: tuple[str, ...]
    after: tuple[str, ...]
    joint: str
    seed: int

    @classmethod
    def draw(cls, neutral: Sequence[str], rng: np.random.Generator) -> Surface:
        case = rng.random()
        around = [neutral[k] for k in rng.choice(len(neutral), int(rng.choice(len(AROUND), p=AROUND)), replace=False)]
        cut = int(rng.integers(len(around) + 1))
        return cls(
            case="lower" if case < LOWER else "upper" if case > 1 - UPPER else "",
            no_end=rng.random() < NO_END,
            slip=rng.random() < SLIP,
            disguise=("leet", "star")[int(rng.integers(2))] if rng.random() < DISGUISE else "",
            emoji=EMOJIS[int(rng.integers(len(EMOJIS)))] if rng.random() < EMOJI else "",
            straight=rng.random() < STRAIGHT,
            unquoted=rng.random() < UNQUOTED,
            before=tuple(around[:cut]),
            after=tuple(around[cut:]),
            joint=(" ", " ", "\n", "\n\n")[int(rng.integers(4))],
            seed=int(rng.integers(1 << 31)),
        )


def apply_surface(pieces: Sequence[Piece], surface: Surface) -> list[Piece]:
    """The pieces, varied, with the neutral sentences around them; terms stay pieces of their own."""
    body = list(pieces)
    if surface.slip:
        body = _with_slips(body, surface.seed)
    if surface.disguise:
        body = [_disguised(piece, surface.disguise) if piece.term else piece for piece in body]
    if surface.emoji:
        body.append(Piece(f" {surface.emoji}"))
    lines = "\n" in "".join(piece.text for piece in pieces)
    joint = "\n\n" if lines else surface.joint
    if surface.before:
        body.insert(0, Piece(_joined(surface.before, joint)))
    if surface.after:
        ends = body[-1].text.rstrip('"”’) ').endswith((".", "!", "?"))
        body.append(Piece((joint if ends or joint != " " else "\n") + _joined(surface.after, "")))
    if surface.no_end and not body[-1].term:
        body[-1] = Piece(body[-1].text.rstrip(".!?"))
    return [Piece(_cased(p.text, surface), p.term, p.labelled) for p in body if p.text]


def _joined(sentences: Sequence[str], end: str) -> str:
    """Sentences in one line; what lacks an end mark gets one before the next."""
    *first, last = sentences
    closed = [text if text[-1] in ".!?" else f"{text}." for text in first]
    return " ".join([*closed, last if last[-1] in ".!?" or end != " " else f"{last}."]) + end


def _cased(text: str, surface: Surface) -> str:
    if surface.unquoted:
        text = re.sub('[“”"]', "", text)
    if surface.straight:
        text = re.sub("[“”]", '"', text).replace("’", "'")
    changed = text.lower() if surface.case == "lower" else text.upper() if surface.case == "upper" else text
    return changed if len(changed) == len(text) else text


def _with_slips(pieces: list[Piece], seed: int) -> list[Piece]:
    """One to three slips of the pen in longer words outside the terms."""
    rng = np.random.default_rng(seed)
    for _ in range(int(rng.integers(1, 4))):
        places = [
            (number, match.start(), match.end())
            for number, piece in enumerate(pieces)
            if not piece.term
            for match in re.finditer(r"\b[a-z]{5,}\b", piece.text)
        ]
        if not places:
            return pieces
        number, start, end = places[int(rng.integers(len(places)))]
        text = pieces[number].text
        slipped = text[:start] + _slip(text[start:end], rng) + text[end:]
        pieces = [*pieces[:number], Piece(slipped), *pieces[number + 1 :]]
    return pieces


def _slip(word: str, rng: np.random.Generator) -> str:
    """A word with two letters swapped, one lost, one doubled, one as a digit, or spaced out."""
    at = int(rng.integers(1, len(word) - 1))
    options = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        "".join(SWAPS.get(letter, letter) for letter in word),
        " ".join(word),
    )
    return options[int(rng.choice(len(options), p=SLIP_KINDS))]


def _disguised(piece: Piece, way: str) -> Piece:
    """One letter of a one-word term as a digit or a star; the matcher must still read it as a whole."""
    text = piece.text
    if not text.isalpha() or len(text) < MIN_DISGUISED:
        return piece
    at = next((k for k in range(1, len(text) - 1) if text[k].lower() in SWAPS), None)
    if at is None:
        return piece
    new = "*" if way == "star" else SWAPS[text[at].lower()]
    return Piece(text[:at] + new + text[at + 1 :], piece.term, piece.labelled)
