"""All scores of a run, and the tables that endpoints are computed from.

In: `RUN/<arm>/<seed>/<stage>/scores.jsonl.zst` and `evaluation.json`. Out: for two arms the same seeds, the same items
and the same clusters, or an account of what is missing. Called by `endpoints.py` and `compare.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignment.item_scores import EVALUATION, SCORES, Metric, ScoreRow, read_metrics, read_scores
from alignment.statistics.contrast import Cells
from curation.errors import DataContractError, Problem

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

NOT_REACHED = "not_reached"  # effort to reach a level: no effort that was tried did

Model = tuple[str, int, str]  # arm, seed, stage


@dataclass(frozen=True)
class Column:
    """The rows of one metric of one model; `value` is NaN where there is none."""

    item: Texts
    cluster: Texts
    value: F64
    weight: F64
    failed: Mapping[str, int]  # why values are missing → how many


@dataclass(frozen=True)
class ItemValues:
    """One score an item, sorted by item."""

    item: Texts
    cluster: Texts
    total: F64  # Σ score, with Σ score² and the number of scores: one each, unless samples are kept apart
    squares: F64
    count: F64
    weight: F64


@dataclass(frozen=True)
class Paired:
    """Two arms over the same seeds and clusters, shape (seeds, clusters) each, and what was left out."""

    treatment: Cells
    control: Cells
    seeds: tuple[int, ...]
    clusters: tuple[str, ...]
    items: int  # distinct
    pairs: int  # (seed, item) with a score in both arms
    incomplete: int  # (seed, item) with a score in one arm, or in none although there is a row
    failed: Mapping[str, int]


@dataclass
class RunScores:
    """Scores and numbers of every model of a run."""

    columns: dict[Model, dict[str, Column]] = field(default_factory=dict)
    metrics: dict[Model, dict[str, Metric]] = field(default_factory=dict)
    higher_is_better: dict[str, bool | None] = field(default_factory=dict)

    @classmethod
    def load(cls, run: Path) -> RunScores:
        """Every evaluated model below `run`.

        Raises:
            DataContractError: a file breaks its contract, lies in another model's folder, or two files disagree about
                whether more of a metric is better.
        """
        scores = cls()
        for path in sorted(run.glob(f"*/*/*/{SCORES}")):
            scores.add(read_scores(path), str(path), _place(path))
        for path in sorted(run.glob(f"*/*/*/{EVALUATION}")):
            arm, seed, stage = _place(path)
            if seed is None:
                message = f"`{path.parent.parent.name}` is no seed"
                raise DataContractError(Problem("bad-score", message, str(path), "RUN/<arm>/<seed>/<stage>/"))
            for metric in read_metrics(path):
                scores._direction(metric.name, metric.higher_is_better, str(path))
                scores.metrics.setdefault((arm, seed, stage), {})[metric.name] = metric
        return scores

    @classmethod
    def of(cls, rows: Iterable[ScoreRow]) -> RunScores:
        """The same from rows in memory."""
        names = list(ScoreRow.__dataclass_fields__)
        data = list(rows)
        scores = cls()
        scores.add(pa.table({name: [getattr(row, name) for row in data] for name in names}), "memory", None)
        return scores

    def add(self, table: pa.Table, where: str, place: tuple[str, int | None, str] | None) -> None:
        """The rows of one file; `place`: the arm, seed and stage that its folder names."""
        if table.num_rows == 0:
            return
        arm, seed, stage, metric = (_codes(table, name) for name in ("arm", "seed", "stage", "metric"))
        keys = np.stack([arm[0], seed[0], stage[0], metric[0]])
        order = np.lexsort(keys[::-1])
        borders = np.flatnonzero(np.any(np.diff(keys[:, order], axis=1) != 0, axis=0)) + 1
        item, cluster, failed = (_texts(table, name) for name in ("item_id", "cluster", "failed"))
        value = table.column("value").cast(pa.float64()).to_numpy().astype(np.float64)
        weight = table.column("weight").cast(pa.float64()).to_numpy().astype(np.float64)
        direction = table.column("higher_is_better")
        for rows in np.split(order, borders):
            at = int(rows[0])
            model = (arm[1][arm[0][at]], int(seed[1][seed[0][at]]), stage[1][stage[0][at]])
            if place and (place[0], place[1] if place[1] is not None else model[1], place[2]) != model:
                found = "/".join(map(str, model))
                raise DataContractError(
                    Problem("bad-score", f"rows of `{found}`", where, "rows of this folder's model")
                )
            name = metric[1][metric[0][at]]
            self._direction(name, direction[at].as_py(), where)
            missing = failed[rows][np.isnan(value[rows])]
            self.columns.setdefault(model, {})[name] = Column(
                item[rows],
                np.where(cluster[rows] == "", item[rows], cluster[rows]),
                value[rows],
                weight[rows],
                {str(code): int(count) for code, count in zip(*np.unique(missing, return_counts=True), strict=True)},
            )

    def arms(self) -> list[str]:
        return sorted({arm for arm, _, _ in self._models()})

    def stages(self) -> list[str]:
        return sorted({stage for _, _, stage in self._models()})

    def names(self) -> list[str]:
        """Every metric that any model has."""
        known = {name for found in self.columns.values() for name in found}
        return sorted(known | {name for found in self.metrics.values() for name in found})

    def seeds(self, arm: str, stage: str, metric: str) -> list[int]:
        """Seeds of an arm that have this metric at this stage."""
        return sorted(
            seed for a, seed, s in self._models() if (a, s) == (arm, stage) and self._has((a, seed, s), metric)
        )

    def unit(self, metric: str) -> str:
        """The metric's unit, empty when no evaluation says."""
        return next((found[metric].unit for found in self.metrics.values() if metric in found), "")

    def column(self, model: Model, metric: str) -> Column | None:
        """The rows of a metric; a metric without rows is one item, its number over the model."""
        found = self.columns.get(model, {}).get(metric)
        if found is not None:
            return found
        number = self.metrics.get(model, {}).get(metric)
        if number is None:
            return None
        value = math.nan if number.value is None else number.value
        whole = np.array(["(model)"])
        failed = {} if number.value is not None else {"no_value": 1}
        return Column(whole, whole, np.array([value]), np.ones(1), failed)

    def mean(self, model: Model, metric: str) -> float | None:
        """The number of one model: as evaluated, or the weighted mean of its rows."""
        number = self.metrics.get(model, {}).get(metric)
        if number is not None:
            return number.value
        column = self.columns.get(model, {}).get(metric)
        if column is None:
            return None
        known = ~np.isnan(column.value)
        total = float(column.weight[known].sum())
        return float(column.weight[known] @ column.value[known]) / total if total else None

    def _models(self) -> list[Model]:
        return sorted(set(self.columns) | set(self.metrics))

    def _has(self, model: Model, metric: str) -> bool:
        return metric in self.columns.get(model, {}) or metric in self.metrics.get(model, {})

    def _direction(self, metric: str, higher_is_better: bool | None, where: str) -> None:
        known = self.higher_is_better.setdefault(metric, higher_is_better)
        if known is not higher_is_better:
            message = f"`{metric}`: higher_is_better is {higher_is_better}, elsewhere {known}"
            raise DataContractError(Problem("bad-score", message, where, "one direction for a metric"))


def item_values(column: Column, samples: str, at_least: float | None) -> ItemValues:
    """The samples of each item made one score (`mean`, `max`) or kept apart (`each`), missing ones left out.

    Args:
        at_least: scores become 1 from here on, else 0: of the highest sample with `max`, else of each.
    """
    known = ~np.isnan(column.value)
    item, first, inverse = np.unique(column.item[known], return_index=True, return_inverse=True)
    value = column.value[known]
    if at_least is not None:
        value = (value >= at_least).astype(np.float64)
    count, total, squares = (_summed(inverse, part, len(item)) for part in (np.ones(len(value)), value, value**2))
    if samples == "max":
        total = np.full(len(item), -np.inf)
        np.maximum.at(total, inverse, value)
    elif samples == "mean":
        total = total / count
    if samples != "each":
        squares, count = total**2, np.ones(len(item))
    return ItemValues(item, column.cluster[known][first], total, squares, count, column.weight[known][first])


def paired(
    scores: RunScores,
    treatment: tuple[str, str, str],
    control: tuple[str, str, str],
    seeds: Sequence[int],
    samples: str = "mean",
    at_least: float | None = None,
) -> Paired:
    """Two arms at (arm, stage, metric), over the items that both have in a seed.

    An item that one arm lacks is left out of the other too: else what made it fail would be what is compared.
    """
    shared = set(scores.seeds(*treatment)) & set(scores.seeds(*control))
    both = [seed for seed in seeds if seed in shared]
    sides: list[tuple[ItemValues, ItemValues]] = []
    kept: list[tuple[I64, I64]] = []
    failed: dict[str, int] = {}
    incomplete = 0
    for seed in both:
        columns = [scores.column((arm, seed, stage), metric) for arm, stage, metric in (treatment, control)]
        values = [item_values(column, samples, at_least) for column in columns if column is not None]
        rows = {str(item) for column in columns if column is not None for item in np.unique(column.item)}
        _, mine, theirs = np.intersect1d(values[0].item, values[1].item, assume_unique=True, return_indices=True)
        incomplete += len(rows) - len(mine)
        for column in columns:
            for code, count in (column.failed if column is not None else {}).items():
                failed[code] = failed.get(code, 0) + count
        sides.append((values[0], values[1]))
        kept.append((mine, theirs))
    names = np.unique(np.concatenate([[""], *(s[0].cluster[k[0]] for s, k in zip(sides, kept, strict=True))]))[1:]
    items = {str(item) for side, keep in zip(sides, kept, strict=True) for item in side[0].item[keep[0]]}
    return Paired(
        treatment=_cells([(side[0], keep[0]) for side, keep in zip(sides, kept, strict=True)], names),
        control=_cells([(side[1], keep[1]) for side, keep in zip(sides, kept, strict=True)], names),
        seeds=tuple(both),
        clusters=tuple(str(name) for name in names),
        items=len(items),
        pairs=sum(len(keep[0]) for keep in kept),
        incomplete=incomplete,
        failed=failed,
    )


def widened(cells: Cells, own: Sequence[str], every: Sequence[str]) -> Cells:
    """The same cells over more clusters, empty where it has none: so that contrasts over other items share columns."""
    at = {name: column for column, name in enumerate(every)}
    columns = [at[name] for name in own]

    def wide(part: F64) -> F64:
        out = np.zeros((len(part), len(every)))
        out[:, columns] = part
        return out

    return Cells(wide(cells.weight), wide(cells.total), wide(cells.squares))


def _cells(rows: Sequence[tuple[ItemValues, I64]], names: Texts) -> Cells:
    """Sums over the kept items of each cluster, one row a seed."""
    parts = np.zeros((3, len(rows), len(names)))
    for row, (values, kept) in enumerate(rows):
        at = np.searchsorted(names, values.cluster[kept])
        for part, column in enumerate((values.count, values.total, values.squares)):
            weighted = values.weight[kept] * column[kept]
            parts[part, row] = np.bincount(at, weights=weighted, minlength=len(names))
    return Cells(parts[0], parts[1], parts[2])


def _summed(at: I64, values: F64, size: int) -> F64:
    return np.bincount(at, weights=values, minlength=size).astype(np.float64)


def _place(path: Path) -> tuple[str, int | None, str]:
    """The arm, seed (None where the folder's name is no number) and stage that a path names."""
    seed = path.parent.parent.name
    return path.parents[2].name, int(seed) if seed.isdigit() else None, path.parent.name


def _codes(table: pa.Table, name: str) -> tuple[I64, list[Any]]:
    column = table.column(name).combine_chunks()
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _texts(table: pa.Table, name: str) -> Texts:
    codes, names = _codes(table, name)
    return np.asarray(names, dtype=np.str_)[codes] if names else np.zeros(len(codes), dtype=np.str_)
