"""What models wrote to the same prompts, for people to read side by side.

RUN/<arm>/<seed>/<stage>/generations.jsonl.zst   one `Generation` a line
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from alignment.json_rows import read_rows, write_rows
from curation.seeding import unit_hash

FILE = "generations.jsonl.zst"
FIELDS = ("item_id", "prompt", "text")


@dataclass(frozen=True)
class Generation:
    """One continuation of one prompt."""

    item_id: str
    prompt: str
    text: str
    sample: int = 0


@dataclass(frozen=True)
class SideBySide:
    """One prompt with the first continuation of each arm."""

    item_id: str
    prompt: str
    texts: dict[str, str]  # arm → text


def write_generations(path: Path, rows: Iterable[Generation]) -> int:
    """Write generations; returns how many."""
    return write_rows(path, (asdict(row) for row in rows))


def side_by_side(run: Path, arms: Iterable[str], shown: int = 12) -> dict[tuple[int, str], list[SideBySide]]:
    """(seed, stage) → prompts that all arms continued, drawn by hash of their id, not by what was written.

    Only the first seed of which two or more arms have generations is shown.

    Raises:
        DataContractError: a file breaks its contract.
    """
    names = list(arms)
    files: dict[tuple[int, str], dict[str, Path]] = {}
    for path in sorted(run.glob(f"*/*/*/{FILE}")):
        arm, number = path.parents[2].name, path.parents[1].name
        if arm in names and number.isdigit():
            files.setdefault((int(number), path.parent.name), {})[arm] = path
    several = {key: found for key, found in files.items() if len(found) > 1}
    first = min((seed for seed, _ in several), default=None)
    out: dict[tuple[int, str], list[SideBySide]] = {}
    for (seed, stage), found in sorted(several.items()):
        if seed == first:
            out[seed, stage] = _shown({arm: found[arm] for arm in names if arm in found}, shown)
    return out


def _shown(files: dict[str, Path], shown: int) -> list[SideBySide]:
    rows = {
        arm: {str(row["item_id"]): row for row in read_rows(path, FIELDS) if not row.get("sample")}
        for arm, path in files.items()
    }
    common = set.intersection(*(set(found) for found in rows.values()))
    chosen = sorted(common, key=lambda name: (unit_hash(name, 0), name))[:shown]
    prompts = next(iter(rows.values()))
    return [
        SideBySide(name, str(prompts[name]["prompt"]), {arm: str(found[name]["text"]) for arm, found in rows.items()})
        for name in chosen
    ]
