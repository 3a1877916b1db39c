"""Frames + lexicon → labelled examples. In: the entries of the lexicon, a seed, a count. Out: `Example`s, all distinct.

1. A kind is drawn by its share, a frame of that kind, then everything the frame is filled with (`filling.Filling`).
2. Every member of the frame is rendered from the same filling, so that the members of a pair differ in context alone.
3. Surface variation (`surface`) is drawn once a frame too and knows nothing of the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from classifiers.examples.example import Example
from classifiers.examples.filling import Piece, Stock, render
from classifiers.examples.frames import Frame, Member, load_frames
from classifiers.examples.surface import Surface, apply_surface
from curation.lexicon.entries import Entry
from curation.seeding import derive_seed, unit_hash

# Share of the draws by kind, chosen so that mentions outnumber uses, that the name of a group alone tells nothing, and
# that no kind is rare; a pair yields one example a member.
SHARES = {
    "pair": 0.15, "use": 0.16, "quotation": 0.07, "explanation": 0.08, "counter_speech": 0.10, "reclaimed": 0.06,
    "homonym": 0.07, "hateful": 0.10, "fair": 0.12, "benign": 0.09,
}  # fmt: skip
HELD_OUT_FRAMES = 0.15
MAX_REDRAWS = 20  # of a frame whose texts have all been seen


def frame_is_held_out(frame: str, seed: int) -> bool:
    """Whether a frame (`Example.frame`) belongs to the 15 % that no fit sees."""
    return unit_hash(frame, derive_seed(seed, "examples", "held out frames")) < HELD_OUT_FRAMES


def generated_examples(entries: Sequence[Entry], seed: int, count: int) -> Iterator[Example]:
    """`count` distinct labelled texts, the same for the same entries and seed; the members of a pair follow each other.

    `Example.key` is the term (frames without one: the frame), `Example.frame` the frame: either may decide the split.
    """
    rng = np.random.default_rng(derive_seed(seed, "examples"))
    stock = Stock(entries)
    by_kind: dict[str, list[Frame]] = {kind: [] for kind in SHARES}
    for frame in load_frames():
        by_kind[frame.kind].append(frame)
    kinds = [kind for kind in SHARES if by_kind[kind]]
    shares = np.array([SHARES[kind] for kind in kinds])
    seen: set[str] = set()
    redraws = 0
    while len(seen) < count:
        options = by_kind[kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]]
        frame = options[int(rng.integers(len(options)))]
        made = fill_frame(frame, stock, rng)
        if any(example.text in seen for example in made):
            redraws += 1
            if redraws > MAX_REDRAWS * (count + 100):
                raise ValueError(f"the frames do not yield {count} distinct texts: stopped at {len(seen)}")
            continue
        for example in made[: count - len(seen)]:
            seen.add(example.text)
            yield example


def fill_frame(frame: Frame, stock: Stock, rng: np.random.Generator) -> list[Example]:
    """The examples of one frame, one a member, filled and varied alike."""
    filling = stock.draw(frame, rng)
    surface = Surface.draw(stock.wordbook.neutral, rng)
    return [_example(frame, member, stock, filling, surface) for member in frame.members]


def _example(frame: Frame, member: Member, stock: Stock, filling: dict[str, str], surface: Surface) -> Example:
    """One member as an example; what a frame marks and the lexicon does not list is not labelled."""
    plain = render(member.text, filling)
    known = [piece if not piece.labelled or stock.term_of(piece.text) else Piece(piece.text) for piece in plain]
    pieces = apply_surface(known, surface)
    text = "".join(piece.text for piece in pieces)
    at = np.cumsum([0, *(len(piece.text) for piece in pieces)])
    spans = tuple((int(at[k]), int(at[k + 1])) for k, piece in enumerate(pieces) if piece.labelled)
    role = member.role if spans else None
    term = filling.get("term") or next((stock.term_of(piece.text) for piece in known if piece.labelled), "")
    key = term or f"frame {frame.id}"
    return Example(text, member.hateful, role, f"template/{role or frame.family}", key, frame.id, spans if role else ())
