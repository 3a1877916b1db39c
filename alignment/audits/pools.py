"""Which human? A reward model from each pool's rows, one from all rows, and one that knows where pools disagree.

    OUTPUT/models/<pool>/, OUTPUT/models/all/     directories of the reward stage, with their data cards
    OUTPUT/pools.json, pools.md                   each pool's held-out accuracy under each model

The same prompts are held out of every model (`direct.is_held_out`). The disagreement-aware judge is the ensemble of
Davani 2022 ("Dealing with Disagreements", TACL 10, arXiv 2110.05719): a model for each pool and their mean, so that
each pool counts alike however many rows it gave. Of the forms compared there it is the one made of models trained
apart. Where all pools' models agree it decides; where they do not, a pair is `contested`, and one number cannot please
both sides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from alignment.audits.measures import all_pairs
from alignment.audits.scoring import ModelJudge
from alignment.direct import is_held_out, prompt_key
from alignment.feedback.card import table
from alignment.json_rows import write_text
from alignment.preference_rows import Comparison, PreferenceRow, rows_sha256
from alignment.preferences import read_comparisons
from alignment.stages.reward import RewardSettings, reward
from alignment.statistics.rates import rate_interval
from curation.config import load_job_file
from curation.errors import DataContractError, Problem, StageError
from curation.settings import Settings, parse

F64 = npt.NDArray[np.float64]
ALL, ENSEMBLE = "all", "ensemble"  # the model from all rows; the mean of the pools' models
RESULT, PAGE = "pools.json", "pools.md"


class PoolsJob(Settings):
    """Rows of several pools, and what their reward models start from."""

    kind: Literal["audit_pools"] = "audit_pools"
    backbone: str = Field(description="a language model's directory, such as an SFT stage")
    rows: tuple[str, ...] = Field(min_length=1, description="comparisons that name their `pool`")
    output: str
    settings: RewardSettings = RewardSettings(held_out=0.2)
    seed: int = 0


@dataclass(frozen=True)
class PoolAccuracy:
    """Of a pool's held-out pairs, the share in which a model puts the preferred response higher; equal ones do not."""

    pool: str
    model: str
    pairs: int
    accuracy: float
    low: float  # 95 %, Wilson: of independent pairs
    high: float


@dataclass(frozen=True)
class Contested:
    """A pool's held-out pairs by whether the pools' models agree which response is better."""

    pool: str
    contested: bool
    pairs: int
    share: float  # of the pool's held-out pairs
    accuracy: float | None  # of the ensemble
    low: float | None
    high: float | None


def load_pools_job(path: str, overrides: Sequence[str] = ()) -> PoolsJob:
    """The job of a file. Raises ConfigError: it cannot be read, or something in it is wrong."""
    return parse(PoolsJob, load_job_file(path, "audit_pools", overrides), path, "this job")


def audit_pools(job: PoolsJob) -> Path:
    """Train what is not trained yet, measure, and write `pools.json` and `pools.md`.

    Returns:
        The path of `pools.json`.

    Raises:
        DataContractError: fewer than two pools, or one without a held-out pair.
        ConfigError, StageError: as the reward stage.
    """
    files = [Path(path) for path in job.rows]
    rows = read_comparisons(*files)
    by_pool = rows_of_pools(rows, job.settings.held_out)
    models = Path(job.output) / "models"
    for name, mine in (*by_pool.items(), (ALL, [row for one in by_pool.values() for row in one])):
        reward(job.settings, job.backbone, mine, models / name, job.seed, files=files, arm=name)
    held = {pool: held_out_pairs(mine, job.settings.held_out) for pool, mine in by_pool.items()}
    rewards = {name: _rewards(models / name, held, job.settings.length) for name in (*by_pool, ALL)}
    accuracies, contested = which_human(held, rewards)
    result = {
        "schema_version": 1,
        "settings": json.loads(job.model_dump_json()),
        "rows_sha256": rows_sha256(rows),
        "rows": {pool: len(mine) for pool, mine in by_pool.items()},
        "accuracy": [asdict(one) for one in accuracies],
        "contested": [asdict(one) for one in contested],
    }
    try:
        write_text(Path(job.output) / RESULT, json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        write_text(Path(job.output) / PAGE, markdown(result))
    except OSError as error:
        raise StageError(Problem("not-written", f"cannot write: {error}", job.output)) from None
    return Path(job.output) / RESULT


def rows_of_pools(rows: Sequence[Comparison], held_out: float) -> dict[str, list[Comparison]]:
    """Rows by pool; those that name none are left out.

    Raises:
        DataContractError: fewer than two pools, a pool without a held-out pair, or one of a name that is taken.
    """
    found = {pool: [row for row in rows if row.pool == pool] for pool in sorted({row.pool for row in rows if row.pool})}
    problems = []
    if len(found) < 2:
        problems.append(Problem("few-pools", f"{len(found)} pools are named in the rows", "pool", "at least 2"))
    for pool, mine in found.items():
        if not held_out_pairs(mine, held_out):
            expected = f"prompts among the {held_out:.0%} that are held out"
            problems.append(Problem("no-rows", f"pool `{pool}` has no held-out pair", "settings.held_out", expected))
        if pool in (ALL, ENSEMBLE) or "/" in pool or pool.startswith("."):
            problems.append(Problem("bad-value", f"a pool cannot be called `{pool}` here", "pool"))
    if problems:
        raise DataContractError(*problems)
    return found


def held_out_pairs(rows: Sequence[Comparison], held_out: float) -> list[PreferenceRow]:
    """The pairs of held-out prompts, lists as all their pairs."""
    return all_pairs(row for row in rows if is_held_out(prompt_key(row.prompt), held_out))


def _rewards(folder: Path, held: Mapping[str, Sequence[PreferenceRow]], limit: int | None) -> dict[str, F64]:
    """Pool → (pairs, 2) rewards of the preferred and the other response, standardised over all responses of all pools:
    models then have one unit, and a mean over them weighs all alike."""
    judge = ModelJudge(folder, limit)
    found = {
        pool: judge.rewards([(p.prompt, text) for p in pairs for text in (p.chosen, p.rejected)]).reshape(-1, 2)
        for pool, pairs in held.items()
    }
    every = np.concatenate([table.ravel() for table in found.values()])
    spread = float(np.nanstd(every)) or 1.0
    return {pool: (table - np.nanmean(every)) / spread for pool, table in found.items()}


def which_human(
    held: Mapping[str, Sequence[PreferenceRow]], rewards: Mapping[str, Mapping[str, F64]]
) -> tuple[list[PoolAccuracy], list[Contested]]:
    """The tables: every pool under every model and the ensemble; and the ensemble where pools' models agree or not.

    Args:
        rewards: model → pool → (pairs, 2), the preferred response first. The models of pools are called as these.
    """
    accuracies, contested = [], []
    for pool in held:
        apart = {model: table[pool][:, 0] - table[pool][:, 1] for model, table in rewards.items()}
        of_pools = np.stack([apart[name] for name in held])
        apart[ENSEMBLE] = of_pools.mean(axis=0)
        for model, difference in apart.items():
            known = difference[~np.isnan(difference)]
            rate = rate_interval(int((known > 0).sum()), len(known))
            accuracies.append(PoolAccuracy(pool, model, len(known), rate.rate, rate.low, rate.high))
        signs = np.sign(of_pools)
        split = (signs != signs[0]).any(axis=0)
        for side in (False, True):
            here = apart[ENSEMBLE][(split == side) & ~np.isnan(apart[ENSEMBLE])]
            found = rate_interval(int((here > 0).sum()), len(here)) if len(here) else None
            share = len(here) / len(split)
            numbers = (None, None, None) if found is None else (found.rate, found.low, found.high)
            contested.append(Contested(pool, side, len(here), share, *numbers))
    return accuracies, contested


def markdown(result: Mapping[str, Any]) -> str:
    """The tables as a page: a row a pool, a column a model."""
    models = list(dict.fromkeys(one["model"] for one in result["accuracy"]))
    lines = []
    for pool, count in result["rows"].items():
        cells = {one["model"]: one for one in result["accuracy"] if one["pool"] == pool}
        lines.append((pool, count, cells[pool]["pairs"], *(_cell(cells[model]) for model in models)))
    splits = [
        (one["pool"], "no" if one["contested"] else "yes", one["pairs"], f"{one['share']:.2f}", _cell(one))
        for one in result["contested"]
    ]
    return "\n".join(
        [
            "# Which human?",
            "",
            "Share of a pool's held-out pairs in which a model agrees with the pool; in brackets 95 %, Wilson.",
            "",
            *table(("people of", "rows", "held-out pairs", *(f"model of {name}" for name in models)), lines),
            "",
            "The ensemble (mean of the pools' models) where these agree with each other, and where they do not:",
            "",
            *table(("people of", "models agree", "pairs", "share", "ensemble"), splits),
            "",
        ]
    )


def _cell(one: Mapping[str, Any]) -> str:
    return "–" if one["accuracy"] is None else f"{one['accuracy']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
