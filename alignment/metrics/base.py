"""What a metric is: item scores for named endpoints. One file a metric; each registers itself in `METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from alignment.metrics.language_model import LanguageModel
from classifiers.labelled import read_rows
from curation.errors import ConfigError, Problem
from curation.registry import Registry
from curation.settings import Settings


@dataclass(frozen=True)
class Endpoint:
    """One number a metric yields."""

    name: str  # <metric>.<what>
    unit: str
    higher_is_better: bool | None  # None: a description, neither better nor worse
    summary: str


@dataclass(frozen=True)
class ItemScore:
    """The value of one item; the mean over items is the endpoint's value."""

    item_id: str
    value: float
    cluster: str = ""  # items of one cluster (paradigm, template, prompt) are not independent
    sample: int = 0  # which of k generations
    weight: float = 1.0  # bytes of a document in a mean of bits per byte


Scores = dict[str, list[ItemScore]]  # endpoint → its items


@dataclass(frozen=True)
class MetricDefinition:
    """A metric as `headwater list metrics` shows it and an experiment runs it."""

    name: str
    summary: str
    endpoints: tuple[Endpoint, ...]
    settings: type[Settings]
    measure: Callable[[LanguageModel, Any], Scores]
    data: Mapping[str, str] = field(default_factory=dict)  # settings field → where to get such a file
    questions: Callable[[Any], Sequence[Any]] | None = None  # settings → its items, of a multiple-choice metric
    generates: bool = False  # lets the model write, so that a prefix before its prompts can matter
    more_files: Callable[[Any], Sequence[tuple[str, str]]] | None = None  # settings → (path, how to get it), not items

    def item_files(self, settings: Any) -> list[tuple[str, str]]:
        """(path, how to get it) of every file of evaluation items that the settings name."""
        found = []
        for field_name, how in self.data.items():
            given = getattr(settings, field_name)
            paths = given.values() if isinstance(given, Mapping) else [given]
            found += [(str(path), how) for path in paths if path is not None]
        return found

    def check_files(self, settings: Any) -> None:
        """Every file is there, and no item stands in one twice: its score would be refused, after hours of training.

        Raises:
            ConfigError: all that are not, each with how to get it, and every file's first repeated item.
        """
        problems: list[Problem] = []
        more = [] if self.more_files is None else self.more_files(settings)
        items = self.item_files(settings)
        for path, how in (*items, *more):
            try:
                data_file(path, self.name, how)
            except ConfigError as error:
                problems += error.problems
        for path, _ in items:
            repeated = _repeated_id(Path(path), getattr(settings, "limit", None))
            if repeated is not None:
                message = f"two rows have the id `{repeated}`"
                problems.append(Problem("bad-metric-data", message, f"metrics.{self.name}: {path}", "one row an id"))
        if problems:
            raise ConfigError(*problems)


METRICS: Registry[MetricDefinition] = Registry("metric")


def data_file(path: str, metric: str, how: str) -> Path:
    """`path` when it is there.

    Raises:
        ConfigError: it is not; the message says how to get it and how to leave the metric out.
    """
    found = Path(path)
    if not found.is_file():
        hint = f"{how}; or list `{metric}` under `skip_metrics`"
        raise ConfigError(Problem("no-metric-data", f"there is no file `{path}`", f"metrics.{metric}", None, hint))
    return found


def _repeated_id(path: Path, limit: int | None) -> str | None:
    """The first `id` that an earlier of the rows to be measured has too; None where rows have none, or no such file."""
    if not path.is_file():
        return None
    seen: set[str] = set()
    for row in islice(read_rows(path), limit):
        if "id" not in row:
            continue
        if str(row["id"]) in seen:
            return str(row["id"])
        seen.add(str(row["id"]))
    return None


def weighted_mean(items: Sequence[ItemScore]) -> float:
    """Σ weight · value / Σ weight."""
    total = sum(item.weight for item in items)
    return sum(item.weight * item.value for item in items) / total
