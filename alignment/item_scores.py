"""What an evaluation leaves on disk: the score of every item, and the numbers about one model.

    RUN/<arm>/<seed>/<stage>/scores.jsonl.zst   one row an item, as `ScoreRow`
    RUN/<arm>/<seed>/<stage>/evaluation.json    one `Metric` an endpoint

Written by whoever evaluates a model, read by `compare.py`. Items are kept one by one, because only items can be paired
between two models. A value that could not be measured is a row with `value: null` and a code in `failed`: it is counted
and never taken for a zero.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from alignment.json_rows import REPORTED, read_bytes, write_rows, write_text
from alignment.statistics.clusters import clustered_interval
from curation.errors import DataContractError, Problem

SCORES = "scores.jsonl.zst"
EVALUATION = "evaluation.json"

SCHEMA = pa.schema(
    [
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("stage", pa.string()),
        ("metric", pa.string()),
        ("item_id", pa.string()),
        ("cluster", pa.string()),
        ("sample", pa.int64()),
        ("value", pa.float64()),
        ("weight", pa.float64()),
        ("higher_is_better", pa.bool_()),
        ("failed", pa.string()),
    ]
)
REQUIRED = ("arm", "seed", "stage", "metric", "item_id")
TEXTS = ("arm", "stage", "metric", "item_id", "cluster", "failed")
DEFAULTS = {"cluster": "", "sample": 0, "weight": 1.0, "failed": ""}


class Item(Protocol):
    """What a metric yields for one item; `alignment.metrics.base.ItemScore` is one."""

    @property
    def item_id(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def cluster(self) -> str: ...
    @property
    def sample(self) -> int: ...
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True)
class ScoreRow:
    """The score of one model on one item.

    Items of one `cluster` (prompt, template, paradigm) are not independent; empty: the item is its own cluster.
    `sample` says which of k generations; `weight` is the item's share in the mean, such as its bytes for bits per byte.
    """

    arm: str
    seed: int
    stage: str
    metric: str
    item_id: str
    value: float | None
    higher_is_better: bool | None  # None: a description, neither better nor worse
    cluster: str = ""
    sample: int = 0
    weight: float = 1.0
    failed: str = ""  # why `value` is None: a code of one word


@dataclass(frozen=True)
class Metric:
    """A number about one model. The interval is over items: it says nothing about another training run."""

    name: str
    value: float | None  # None where no item has a value
    unit: str
    higher_is_better: bool | None
    n: int  # items with a value
    ci_low: float | None = None
    ci_high: float | None = None
    clusters: int = 0
    failed: int = 0  # items without a value


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> int:
    """Write rows as JSON lines under zstd; the file appears whole or not at all.

    Returns:
        The number of rows.

    Raises:
        DataContractError: a value is not finite, a row has neither value nor reason, or an item occurs twice.
    """
    return write_rows(path, _checked(path, rows))


def read_scores(path: Path) -> pa.Table:
    """All rows of one file, with the columns of `SCHEMA`; text columns are dictionary-encoded.

    Raises:
        DataContractError: every line that breaks the contract (the first twenty), with its number.
    """
    data = read_bytes(path)
    if not data.strip():
        return SCHEMA.empty_table()
    try:
        # Explicit types: what a file happens to hold first must not decide how the rest of it is read.
        options = pyarrow.json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
        table = pyarrow.json.read_json(
            io.BytesIO(data), read_options=pyarrow.json.ReadOptions(block_size=1 << 24), parse_options=options
        )
    except pa.ArrowInvalid:
        raise DataContractError(*_line_problems(path, data)) from None
    columns = {}
    for field in SCHEMA:
        column = table.column(field.name)
        columns[field.name] = pc.fill_null(column, DEFAULTS[field.name]) if field.name in DEFAULTS else column
    table = pa.table(columns, schema=SCHEMA)
    _check(path, data, table)
    for name in TEXTS:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(name).dictionary_encode().unify_dictionaries())
    return table


def summarise(rows: Sequence[ScoreRow], unit: str) -> Metric:
    """The weighted mean of one endpoint with its clustered 95 % interval over items."""
    known = [row for row in rows if row.value is not None]
    found = clustered_interval(
        np.array([row.value for row in known], dtype=np.float64),
        [row.cluster or row.item_id for row in known],
        np.array([row.weight for row in known], dtype=np.float64),
    )
    first = rows[0]
    return Metric(
        first.metric, found.mean, unit, first.higher_is_better, len(known), found.low, found.high, found.clusters,
        len(rows) - len(known),
    )  # fmt: skip


def write_evaluation(
    folder: Path,
    arm: str,
    seed: int,
    stage: str,
    scores: Mapping[str, Sequence[Item]],
    endpoints: Mapping[str, tuple[str, bool | None]],
) -> list[Metric]:
    """Write both files of one model.

    Args:
        scores: endpoint → its items. A value that is NaN was not measured.
        endpoints: endpoint → (unit, higher is better); `<judge>` in a name stands for any word.

    Raises:
        DataContractError: as `write_scores`, and when an endpoint is not in `endpoints`.
    """
    rows: list[ScoreRow] = []
    metrics = []
    for name, items in scores.items():
        unit, higher_is_better = _declared(name, endpoints, folder)
        mine = [_row(arm, seed, stage, name, higher_is_better, item) for item in items]
        rows += mine
        if mine:
            metrics.append(summarise(mine, unit))
    write_scores(folder / SCORES, rows)
    write_metrics(folder / EVALUATION, metrics)
    return metrics


def write_metrics(path: Path, metrics: Sequence[Metric]) -> None:
    """Write `evaluation.json`: `{"metrics": [...]}`, in the order given."""
    write_text(path, json.dumps({"metrics": [asdict(m) for m in metrics]}, indent=1, allow_nan=False) + "\n")


def read_metrics(path: Path) -> list[Metric]:
    """The numbers of `evaluation.json`.

    Raises:
        DataContractError: it is no such file.
    """
    try:
        return [Metric(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["metrics"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataContractError(Problem("bad-evaluation", f"not an evaluation: {error}", str(path))) from None


def failures(table: pa.Table) -> dict[str, int]:
    """How many rows have no value, by the code that says why."""
    missing = table.filter(pc.is_null(table.column("value"))).column("failed").to_pylist()
    return dict(sorted(Counter(missing).items()))


def _declared(name: str, endpoints: Mapping[str, tuple[str, bool | None]], folder: Path) -> tuple[str, bool | None]:
    for known, declared in endpoints.items():
        if re.fullmatch(re.sub(r"<\w+>", ".+", re.escape(known)), name):
            return declared
    raise DataContractError(
        Problem("bad-score", f"`{name}` has no unit", str(folder), f"one of: {', '.join(endpoints)}")
    )


def _row(arm: str, seed: int, stage: str, name: str, higher_is_better: bool | None, item: Item) -> ScoreRow:
    measured = not math.isnan(item.value)
    return ScoreRow(
        arm, seed, stage, name, item.item_id, item.value if measured else None, higher_is_better,
        item.cluster, item.sample, item.weight, "" if measured else "not_measured",
    )  # fmt: skip


def _checked(path: Path, rows: Iterable[ScoreRow]) -> Iterator[dict[str, Any]]:
    seen: set[tuple[str, int, str, str, str, int]] = set()
    for row in rows:
        problem = _problem_of(vars(row))
        key = (row.arm, row.seed, row.stage, row.metric, row.item_id, row.sample)
        if problem is None and key in seen:
            problem = "the item occurs twice"
        if problem:
            place = f"{path}: {row.metric}, item {row.item_id!r}, sample {row.sample}"
            raise DataContractError(Problem("bad-score", problem, place, "one finite value, or why there is none"))
        seen.add(key)
        yield _sparse(row)


def _sparse(row: ScoreRow) -> dict[str, Any]:
    """The row without fields that hold their default: two thirds of the bytes of a large file."""
    return {name: value for name, value in vars(row).items() if name not in DEFAULTS or value != DEFAULTS[name]}


def _problem_of(row: Mapping[str, Any]) -> str | None:
    missing = [name for name in REQUIRED if row.get(name) in (None, "")]
    if missing:
        return f"`{missing[0]}` is missing"
    value, weight = row.get("value"), row.get("weight", 1.0)
    if value is None and not row.get("failed"):
        return "there is no value and no reason in `failed`"
    if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
        return f"`value` is {value!r}"
    if not (isinstance(weight, int | float) and math.isfinite(weight) and weight > 0):
        return f"`weight` is {weight!r}"
    if not isinstance(row["seed"], int) or not isinstance(row.get("sample", 0), int):
        return "`seed` and `sample` are whole numbers"
    texts = [
        name for name in ("arm", "stage", "metric", "item_id", "cluster") if not isinstance(row.get(name, ""), str)
    ]
    if texts:
        return f"`{texts[0]}` is {row[texts[0]]!r}, not a text"
    if row.get("higher_is_better") not in (None, True, False):
        return f"`higher_is_better` is {row['higher_is_better']!r}"
    return None


def _check(path: Path, data: bytes, table: pa.Table) -> None:
    """Refuse what the fast reader let through: absent fields, numbers that are none, items that occur twice."""
    value, weight = table.column("value"), table.column("weight")
    unexplained = pc.and_(pc.is_null(value), pc.equal(table.column("failed"), ""))
    bad = [pc.is_null(table.column(name)) for name in REQUIRED]
    bad += [unexplained, pc.fill_null(pc.invert(pc.is_finite(value)), False)]
    bad.append(pc.invert(pc.and_(pc.is_finite(weight), pc.greater(weight, 0.0))))
    if any(pc.any(column).as_py() for column in bad):
        raise DataContractError(*_line_problems(path, data))
    key = [*REQUIRED, "sample"]
    counted = table.group_by(key).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted.column("count_all"), 1))
    if twice.num_rows:
        row = twice.slice(0, 1).to_pylist()[0]
        place = f"{path}: {row['metric']}, item {row['item_id']!r}, sample {row['sample']}"
        raise DataContractError(Problem("bad-score", f"{twice.num_rows} items occur more than once", place))


def _line_problems(path: Path, data: bytes) -> list[Problem]:
    """What is wrong, line by line; called only when something is."""
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            row = orjson.loads(line)
            message = _problem_of(row) if isinstance(row, dict) else "not a JSON object"
        except orjson.JSONDecodeError as error:
            message = f"not JSON: {error}"
        if message:
            found.append(Problem("bad-score", message, f"{path}: line {number}", "a row as in docs/contract.md"))
        if len(found) == REPORTED:
            break
    return found or [Problem("bad-score", "the columns do not have one type", str(path))]
