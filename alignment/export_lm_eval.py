"""Multiple-choice metrics → task files of lm-evaluation-harness, so that anybody can score the same items with it.

Each task is `<metric>.yaml` beside `<metric>.jsonl`; items carry the very texts that are scored here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from alignment.json_rows import write_rows, write_text
from alignment.metrics import METRICS
from curation.errors import ConfigError, Problem
from curation.settings import Settings


def export_lm_eval(metrics: Mapping[str, Settings], folder: Path, prefix: str = "headwater_") -> list[str]:
    """Write a task for every multiple-choice metric with one context an item.

    Args:
        metrics: metric → its settings, as `config.check_evaluation` gives them.

    Returns:
        The names of the tasks; metrics of other kinds have none.

    Raises:
        ConfigError: not one of them can be written.
    """
    tasks = []
    for name, settings in metrics.items():
        definition = METRICS.get(name)
        if definition.questions is None:
            continue
        questions = definition.questions(settings)
        if any(len(question.contexts) != 1 or len(question.right) != 1 for question in questions):
            continue
        rows = [
            {"id": q.item_id, "context": q.contexts[0], "choices": list(q.choices), "gold": min(q.right)}
            for q in questions
        ]
        write_rows(folder / f"{name}.jsonl", rows)
        write_text(
            folder / f"{name}.yaml", yaml.safe_dump(_task(prefix + name, folder / f"{name}.jsonl"), sort_keys=False)
        )
        tasks.append(prefix + name)
    if not tasks:
        known = [name for name, definition in METRICS.items() if definition.questions is not None]
        raise ConfigError(
            Problem("nothing-to-export", "no multiple-choice metric", None, f"one of: {', '.join(known)}")
        )
    return tasks


def _task(name: str, rows: Path) -> dict[str, object]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",  # the continuations begin with their own space
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
        ],
        "metadata": {"version": 1.0},
    }
