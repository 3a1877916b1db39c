"""Documents that contain evaluation items, taken out of every arm alike before tokens are laid.

The finder is the curation filter `decontamination`: the same 13-grams, the same coverage. A document that is found in
one arm is left out of all: else an arm would have lost, or kept, a test that the others did not, by what a ruleset did
to the words around it. Called by `alignment/arms.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pydantic import Field

from curation.document import DOCUMENTS
from curation.filters.base import FILTERS, DocumentBatch
from curation.filters.decontamination import DecontaminationSettings
from curation.filters.evaluation_items import matching_files
from curation.kernels.text_batch import TextBatch
from curation.settings import Settings

BATCH = 2048  # texts searched at once
FILTER = "decontamination"


class DecontaminateSettings(Settings):
    """What makes a document contaminated; the files of all metrics are searched for, and `files` besides."""

    files: tuple[str, ...] = Field(default=(), description="more evaluation files: paths or globs")
    # Defaults and their sources: curation/filters/decontamination.py.
    ngram: int = Field(default=DecontaminationSettings.model_fields["ngram"].default, ge=2)
    min_coverage: float = Field(default=DecontaminationSettings.model_fields["min_coverage"].default, gt=0, le=1)
    min_item_words: int = Field(default=DecontaminationSettings.model_fields["min_item_words"].default, ge=1)

    def over(self, files: Iterable[str]) -> DecontaminationSettings | None:
        """The filter's settings for these files and the job's own; None where there is no file at all."""
        every = tuple(sorted({*files, *self.files}))
        if not every:
            return None
        return DecontaminationSettings(
            files=every, ngram=self.ngram, min_coverage=self.min_coverage, min_item_words=self.min_item_words
        )


@dataclass(frozen=True)
class Contamination:
    """Which distinct texts contain evaluation items, and whose."""

    files: tuple[str, ...]  # paths that were searched for
    texts: Mapping[int, frozenset[str]] = field(default_factory=dict)  # number of a text → items, `<file stem>:<id>`

    def counts(self, found: Sequence[int]) -> dict[str, dict[str, int]]:
        """Path → of these texts those that hold an item of it, and how many of its items they hold.

        Two paths with one stem cannot be told apart by an item's name: such items count for both.
        """
        out = {}
        for path in self.files:
            stem = Path(path).name.split(".")[0] + ":"
            mine = [{item for item in self.texts[text] if item.startswith(stem)} for text in found]
            out[path] = {"documents": sum(map(bool, mine)), "items": len(set().union(*mine))}
        return out


def find_contaminated(texts: Iterable[str], settings: DecontaminationSettings) -> Contamination:
    """Search every text for every evaluation item.

    Raises:
        ConfigError: an evaluation file cannot be read.
    """
    chosen = FILTERS.get(FILTER)
    found: dict[int, frozenset[str]] = {}
    at = 0
    rest = iter(texts)
    while batch := list(islice(rest, BATCH)):
        signals = chosen.measure(DocumentBatch(TextBatch.of(batch), DOCUMENTS.empty_table()), settings)
        for number, spans in enumerate(signals["matches"].to_pylist(), at):
            if spans:
                found[number] = frozenset(span["label"] for span in spans)
        at += len(batch)
    return Contamination(evaluation_paths(settings), found)


def evaluation_paths(settings: DecontaminationSettings) -> tuple[str, ...]:
    """Every file that the settings name, globs resolved."""
    return tuple(dict.fromkeys(str(path) for pattern in settings.files for path in matching_files(pattern)))


def contamination_identity(settings: DecontaminationSettings) -> dict[str, object]:
    """What identifies the search: its thresholds and the contents of its files, not where they lie."""
    digests = []
    for path in evaluation_paths(settings):
        with Path(path).open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return {"files": digests, **settings.model_dump(exclude={"files"})}
