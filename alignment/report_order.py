"""The order in which the report names stages."""

from __future__ import annotations

import re

KNOWN = ("pretrain", "sft", "reward", "ppo", "dpo", "kto")


def stage_rank(stage: str) -> tuple[int, str, int]:
    """A key: known stages in the order in which they run, others after them by name and number."""
    number = re.search(r"\d+$", stage)
    place = KNOWN.index(stage) if stage in KNOWN else len(KNOWN)
    return place, stage[: number.start()] if number else stage, int(number.group()) if number else 0
