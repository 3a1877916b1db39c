"""Labelled sets and written examples → training texts of the encoder: windows with three text labels and mention roles.

Sets disagree about what they call toxic, so each says for itself which of its labels mean `toxic` (rude, abusive or
hateful), `hate` (attacks people for the group they belong to) and `counter` (opposes or answers hate), and leaves out
what it does not know. A mention's role follows from the text's label: a demeaning term is `use` in hate, an insult is
`use` in abuse; elsewhere it is some kind of mention, and only written examples say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from classifiers.encoder import with_marks
from classifiers.labelled import dotted, read_rows
from classifiers.roles import ROLES
from classifiers.tokens import tokenize
from classifiers.windows import WindowSettings, cut
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import Lexicon, load_lexicon
from curation.lexicon.matcher import Matcher
from curation.seeding import unit_hash
from curation.settings import Settings

SOME_MENTION = len(ROLES)  # not use; which kind is unknown
DEMEANING = frozenset({"slur", "hate_ideology"})
INSULTING = frozenset({"insult"})
UNKNOWN = np.float32("nan")


class LabelRule(Settings):
    """Which values of a column mean that a label holds and which that it does not; any other leaves it unknown."""

    field: str = "label"
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    def read(self, row: dict[str, Any]) -> np.float32:
        """1, 0 or NaN. A list is positive when any of its values is, negative when all are."""
        found = dotted(row, self.field)
        values = [str(v) for v in found] if isinstance(found, list) else [str(found)]
        if any(v in self.positive for v in values):
            return np.float32(1)
        return np.float32(0) if all(v in self.negative for v in values) else UNKNOWN


class EncoderSet(Settings):
    """One labelled set of a `classifier: context` job."""

    path: str
    licence: str
    text: str = "text"
    toxic: LabelRule | None = None
    hate: LabelRule | None = None
    counter: LabelRule | None = None
    clean: bool = Field(default=False, description="ordinary text: not toxic, not hateful")
    clean_text: str | None = Field(default=None, description="dotted path of a clean rewrite of each row")
    limit: int | None = Field(default=None, description="rows per combination of labels, drawn by hash")
    group: str | None = Field(default=None, description="dotted path of what must not be split")
    fold: int | None = Field(default=None, description="fold in which this set is left out; None: always learnt")
    max_windows: int = Field(default=2, description="windows of one row, so that a long page weighs little")

    @property
    def name(self) -> str:
        return Path(self.path).name.split(".")[0]


@dataclass(frozen=True)
class TrainingText:
    """A window of text with what is known of it."""

    text: str
    labels: npt.NDArray[np.float32]  # TEXT_HEADS: 1, 0 or NaN
    source: str
    id: str  # row id, the same for all windows of a row
    key: str  # what must stay in one split
    fold: int  # -1: in every fold's training data
    spans: tuple[tuple[int, int], ...] = ()
    roles: tuple[int, ...] = ()  # per span: index into ROLES, or SOME_MENTION
    frame: str = ""


def load_training_texts(
    sets: Sequence[EncoderSet], root: Path, seed: int, windows: WindowSettings, skip: int = 0
) -> list[TrainingText]:
    """Windows of all rows but the first `skip` of each set, with mentions found by the shipped lexicon."""
    lexicon = load_lexicon("english")
    matcher = Matcher(lexicon)
    found: list[TrainingText] = []
    for spec in sets:
        rows = list(labelled_rows(spec, root, seed))[skip:]
        texts = list(_windows_of(rows, spec, matcher, lexicon, windows))
        # Nobody read the ordinary text: where a demeaning term stands it may not be clean.
        found += [text for text in texts if not (spec.clean and text.spans)]
    return found


@dataclass(frozen=True)
class LabelledRow:
    """A row of a set: its whole text and what its labels say (TEXT_HEADS: 1, 0 or NaN)."""

    id: str
    text: str
    labels: npt.NDArray[np.float32]
    group: str


def labelled_rows(spec: EncoderSet, root: Path, seed: int) -> Iterator[LabelledRow]:
    """Rows whose labels say something, in an order drawn by hash, at most `limit` of each combination of labels."""
    rows = []
    for raw in read_rows(root / spec.path):
        text = str(dotted(raw, spec.text) or "").strip()
        labels = np.array([0, 0, UNKNOWN], np.float32) if spec.clean else _labels(spec, raw)
        group = str(dotted(raw, spec.group) or raw["id"]) if spec.group else str(raw["id"])
        if text and not np.isnan(labels).all():
            rows.append(LabelledRow(str(raw["id"]), text, labels, group))
        rewrite = dotted(raw, spec.clean_text) if spec.clean_text else None
        if rewrite:
            clean = str(rewrite[0] if isinstance(rewrite, list) else rewrite)
            rows.append(LabelledRow(f"{raw['id']}/clean", clean, np.array([0, 0, UNKNOWN], np.float32), group))
    rows.sort(key=lambda row: (unit_hash(f"{spec.name}/{row.id}", seed), row.id))
    taken: dict[bytes, int] = {}
    for row in rows:
        kind = row.labels.tobytes()
        taken[kind] = taken.get(kind, 0) + 1
        if spec.limit is None or taken[kind] <= spec.limit:
            yield row


def _labels(spec: EncoderSet, raw: dict[str, Any]) -> npt.NDArray[np.float32]:
    rules = (spec.toxic, spec.hate, spec.counter)
    return np.array([UNKNOWN if rule is None else rule.read(raw) for rule in rules], np.float32)


def _windows_of(
    rows: Sequence[LabelledRow], spec: EncoderSet, matcher: Matcher, lexicon: Lexicon, settings: WindowSettings
) -> Iterable[TrainingText]:
    """The first windows of every row; a toxic row of several windows is one text, for nobody said which is toxic."""
    batch = TextBatch.of([row.text for row in rows])
    tokens = tokenize(batch)
    windows = cut(tokens, settings)
    hits = matcher.find(batch)
    bounds = np.searchsorted(hits.row, np.arange(len(rows) + 1))
    category = [entry.category for entry in lexicon.entries]
    severity = [entry.severity for entry in lexicon.entries]
    for index, row in enumerate(rows):
        a, b = int(windows.bounds[index]), int(windows.bounds[index + 1])
        b = min(b, a + spec.max_windows)
        whole = bool((row.labels == 1).any())
        pieces = [(a, b)] if whole else [(w, w + 1) for w in range(a, b)]
        for first, last in pieces:
            if first >= last:
                continue
            start = int(tokens.start[windows.first[first]])
            end = int(tokens.end[windows.last[last - 1] - 1])
            start, end = with_marks(row.text, start, end)
            spans, roles = [], []
            for m in range(int(bounds[index]), int(bounds[index + 1])):
                s, e = int(hits.start[m]), int(hits.end[m])
                kind = category[hits.entry[m]]
                role = None if hits.guarded[m] or not severity[hits.entry[m]] else mention_label(kind, row.labels)
                if role is not None and start <= s and e <= end:
                    spans.append((s - start, e - start))
                    roles.append(role)
            fold = -1 if spec.fold is None else spec.fold
            yield TrainingText(
                row.text[start:end], row.labels, spec.name, row.id, f"{spec.name}/{row.group}", fold,
                tuple(spans), tuple(roles),
            )  # fmt: skip


def mention_label(category: str, labels: npt.NDArray[np.float32]) -> int | None:
    """0 (use), SOME_MENTION, or None where the text's label says nothing about a term of this category."""
    toxic, hate, counter = labels.tolist()
    if counter == 1:
        return SOME_MENTION
    if category in DEMEANING:
        return 0 if hate == 1 else SOME_MENTION if hate == 0 else None
    if category in INSULTING:
        return 0 if toxic == 1 else SOME_MENTION if toxic == 0 else None
    return None


def example_texts(seed: int, count: int, windows: WindowSettings) -> list[TrainingText]:
    """Written examples (classifiers/examples) as training texts; `frame` says which are never learnt from.

    Swearing at nobody in particular is not hateful, and whether it is toxic is a matter of the reader: unknown.
    """
    from classifiers.examples.generate import generated_examples

    entries = load_lexicon("english").entries
    examples = list(generated_examples(entries, seed, count))
    batch = TextBatch.of([example.text for example in examples])
    tokens = tokenize(batch)
    cuts = cut(tokens, windows)
    found = []
    for index, example in enumerate(examples):
        swearing = "profane" in example.source or "swearing" in example.source
        hate = UNKNOWN if "insult" in example.source else np.float32(example.hateful)
        toxic = UNKNOWN if swearing and not example.hateful else np.float32(example.hateful)
        counter = np.float32(1) if example.role == "counter_speech" else np.float32(0) if example.hateful else UNKNOWN
        labels = np.array([toxic, hate, counter], np.float32)
        role = ROLES.index(example.role) if example.role else -1
        pieces = [(0, len(example.text))]
        if example.spans:
            a, b = int(cuts.bounds[index]), int(cuts.bounds[index + 1])
            places = [(int(tokens.start[cuts.first[w]]), int(tokens.end[cuts.last[w] - 1])) for w in range(a, b)]
            places = [with_marks(example.text, *place) for place in places]
            pieces = [p for p in places if any(p[0] <= s and e <= p[1] for s, e in example.spans)] or pieces
        for start, end in pieces:
            spans = tuple((s - start, e - start) for s, e in example.spans if start <= s and e <= end)
            found.append(
                TrainingText(
                    example.text[start:end], labels, example.source, f"{example.frame}/{index}", example.key, -1,
                    spans, (role,) * len(spans), example.frame,
                )
            )  # fmt: skip
    return found


def held_frame(text: TrainingText, seed: int) -> bool:
    """Whether a written example belongs to the 15 % of frames that no model learns from."""
    return bool(text.frame) and unit_hash(f"frame/{text.frame}", seed) < 0.15
