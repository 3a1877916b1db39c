"""The rows and models of a run in TRL's formats, so that a stage can be run again there.

    OUT/README.md                            what is here, and a command for each stage
    OUT/export.json                          every file of rows: where from, how many, sha256
    OUT/<arm>/<seed>/<stage>/model/          a Hugging Face directory; a reward model as a sequence classifier
    OUT/<arm>/<seed>/<stage>/rows/           train.jsonl and, where prompts were held out, test.jsonl

In: RUN/<arm>/<seed>/<stage>/ with `stage.json`, the model and `rows.jsonl.zst`; RUN/experiment.json tells the settings.
Rows are conversational, so TRL applies the model's chat template and gets the very tokens the stage saw.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from alignment.direct import is_held_out, prompt_key
from alignment.model import REWARD_HEAD, RewardModel, load_model, read_json, save_model
from alignment.preferences import (
    AnyRow,
    PreferenceRow,
    RankedRow,
    pairs_from_ranked,
    read_comparisons,
    read_demonstrations,
    read_judged,
    read_preferences,
    rows_sha256,
    write_rows,
)
from alignment.stage import StageResult
from alignment.stages.reward import ROWS_FILE, RewardSettings, start
from alignment.tokenizer import load_tokenizer
from curation.errors import ConfigError, Problem

AUTO_CLASSIFIER: Any = AutoModelForSequenceClassification  # its factory methods are half-typed
READERS: dict[str, Any] = {
    "sft": read_demonstrations,
    "reward": read_comparisons,
    "dpo": read_preferences,
    "kto": read_judged,
}


@dataclass(frozen=True)
class Exported:
    """One stage in its new place, by paths relative to OUT."""

    stage: str
    folder: str  # <arm>/<seed>/<stage>
    rows: int  # to train on; 0: TRL has no such stage, or the stage left no rows
    held_out: int
    rows_sha256: str  # of the file the stage left
    lists: int  # ranked lists that became pairs
    begins_with: str | None  # the model to begin with, None: not in this run
    settings: dict[str, Any]


def export_trl(run: Path, out: Path) -> list[Exported]:
    """Write every finished stage of `run` below `out`, which must be empty or new.

    Returns:
        One entry a stage, in the order of their folders.

    Raises:
        ConfigError: `run` has no finished stage, or `out` is not empty.
        DataContractError: a model or a file of rows is damaged.
        StageError: the disk is full.
    """
    stages = sorted(run.glob("*/*/*/stage.json"))
    if not stages:
        expected = "RUN/<arm>/<seed>/<stage>/stage.json"
        raise ConfigError(Problem("no-stages", "there is no finished stage", str(run), expected))
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(Problem("not-empty", "the folder has files already", str(out), "an empty or a new folder"))
    job = read_json(run / "experiment.json") if (run / "experiment.json").is_file() else {}
    found = [_export(run, path.parent, out, job) for path in stages]
    plain = [vars(entry) for entry in found]
    (out / "export.json").write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (out / "README.md").write_text(readme(found), encoding="utf-8")
    return found


def _export(run: Path, folder: Path, out: Path, job: dict[str, Any]) -> Exported:
    result = StageResult(**read_json(folder / "stage.json"))
    place = folder.relative_to(run)
    tokenizer = load_tokenizer(folder)
    if (folder / REWARD_HEAD).is_file():
        save_model(as_classifier(RewardModel.load(folder), tokenizer), tokenizer, out / place / "model")
    else:
        save_model(load_model(folder), tokenizer, out / place / "model")
    settings = dict((job.get(result.stage) or {}).get("settings") or {})
    train: list[AnyRow] = []
    test: list[AnyRow] = []
    digest, lists = "", 0
    if result.stage in READERS and (folder / ROWS_FILE).is_file():
        rows = READERS[result.stage](folder / ROWS_FILE)
        digest, lists = rows_sha256(rows), sum(isinstance(row, RankedRow) for row in rows)
        for row in trl_rows(rows):
            held_out = is_held_out(prompt_key(row.prompt), settings.get("held_out", 0.0))
            (test if held_out else train).append(row)
        write_rows(out / place / "rows" / "train.jsonl", train, conversational=True)
        if test:
            write_rows(out / place / "rows" / "test.jsonl", test, conversational=True)
    before = _before(run, folder, out, job, result.stage, settings)
    return Exported(result.stage, str(place), len(train), len(test), digest, lists, before, settings)


def trl_rows(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """Rows as TRL can hold them: lists as all their pairs, answers without white space around them, as stages encode
    them."""
    found: list[AnyRow] = []
    for row in rows:
        if isinstance(row, RankedRow):
            found += trl_rows(pairs_from_ranked([row]))
        elif isinstance(row, PreferenceRow):
            found.append(_changed(row, chosen=row.chosen.strip(), rejected=row.rejected.strip()))
        else:
            found.append(_changed(row, response=row.response.strip()))
    return found


def _changed(row: Any, **values: str) -> Any:
    return type(row)(**{**vars(row), **values})


def as_classifier(model: RewardModel, tokenizer: Any) -> Any:
    """The reward model as Hugging Face and TRL have one: `num_labels` 1, a head without bias.

    The normalised reward is the score plus `config.reward_offset`; the gain is in the head's weight. A constant changes
    neither the order of responses nor a pairwise loss.

    Raises:
        ConfigError: transformers has no sequence classifier for this family of models.
    """
    config = AutoConfig.for_model(**{**model.backbone.config.to_dict(), "num_labels": 1})
    config.pad_token_id = tokenizer.pad_token_id  # the score is read at the last token that is not padding
    config.reward_offset = float((model.gain * model.head.bias + model.bias).detach())
    try:
        classifier = AUTO_CLASSIFIER.from_config(config)
        inner = getattr(classifier, classifier.base_model_prefix)
        inner.load_state_dict(model.backbone.state_dict())
        with torch.no_grad():
            classifier.score.weight.copy_(model.head.weight * model.gain)
    except (ValueError, AttributeError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(Problem("no-classifier", f"cannot become a sequence classifier: {first}")) from None
    return classifier


def _before(
    run: Path, folder: Path, out: Path, job: dict[str, Any], stage: str, settings: dict[str, Any]
) -> str | None:
    """The model the stage began with, relative to `out`; a reward stage's is made here, its head included."""
    cell = folder.parent
    near = cell / "sft" if stage in ("reward", "dpo", "kto", "ppo") else cell / "pretrain"
    near = near if (near / "stage.json").is_file() else cell / "pretrain"
    begun: Path | str | None = near if (near / "stage.json").is_file() else job.get("model")
    if begun is None or stage == "pretrain":
        return None
    if stage == "reward" and settings:
        seed = int(folder.parent.name)
        model = start(RewardSettings.model_validate_json(json.dumps(settings)), begun, seed)
        place = folder.relative_to(run) / "start"
        tokenizer = load_tokenizer(begun)
        save_model(as_classifier(model, tokenizer), tokenizer, out / place)
        return str(place)
    return str(begun) if isinstance(begun, str) else str(near.relative_to(run) / "model")


# README


def command(entry: Exported) -> list[str] | None:
    """TRL's command for a stage, as its words; None where TRL has no such stage or there are no rows.

    Held to TRL's own parser by a test. TRL's `max_length` stays far away: it drops long rows, where a stage cuts the
    answer.
    """
    if entry.stage not in READERS or not entry.rows:
        return None
    s = entry.settings
    loop = s.get("loop", {})
    words = ["trl", entry.stage, "--model_name_or_path", entry.begins_with or "MODEL"]
    words += ["--dataset_name", f"{entry.folder}/rows", "--output_dir", f"again/{entry.folder}"]
    words += ["--max_length", str(s.get("length") or 1024), "--num_train_epochs", str(s.get("epochs", 1))]
    words += ["--per_device_train_batch_size", str(s.get("batch", 8)), "--gradient_accumulation_steps", "1"]
    if "learning_rate" in loop:
        words += ["--learning_rate", f"{loop['learning_rate']:g}", "--adam_beta1", f"{loop['beta1']:g}"]
        words += ["--adam_beta2", f"{loop['beta2']:g}", "--adam_epsilon", f"{loop['eps']:g}"]
        words += ["--weight_decay", f"{loop['weight_decay']:g}", "--max_grad_norm", f"{loop['clip']:g}"]
        words += ["--lr_scheduler_type", {"wsd": "warmup_stable_decay"}.get(loop["schedule"], loop["schedule"])]
    if entry.stage == "sft":
        words += ["--completion_only_loss", "true"]
    if entry.stage in ("dpo", "kto") and "beta" in s:
        words += ["--beta", f"{s['beta']:g}"]
    if entry.stage == "dpo" and s.get("kind") == "ipo":
        words += ["--loss_type", "ipo"]
    if entry.stage == "reward" and s.get("centring"):
        words += ["--center_rewards_coefficient", f"{s['centring']:g}"]
    return words


def readme(found: Sequence[Exported]) -> str:
    """The text of OUT/README.md."""
    lines = [
        "# A run in TRL's formats",
        "",
        "Written by `headwater export-trl`. Each `model/` is a Hugging Face directory with its tokenizer; each",
        "`rows/` loads with `datasets.load_dataset`. Run the commands here, with TRL 1.16 or newer; `HF_HUB_OFFLINE=1`",
        "keeps it from asking the hub, and `HF_HUB_DISABLE_TELEMETRY=1` from reporting use.",
        "",
        "| stage | rows | held out | command |",
        "|---|--:|--:|---|",
    ]
    for entry in found:
        words = command(entry)
        shown = "–" if words is None else f"`{' '.join(words)}`"
        lines.append(f"| {entry.folder} | {entry.rows:,} | {entry.held_out:,} | {shown} |")
    lines += [
        "",
        "What differs there:",
        "",
        "- TRL drops rows longer than `--max_length`; the stages cut the answer and keep the row.",
        "- TRL's order of rows is another, and its loss is a mean over each micro-batch.",
        "- PPO: TRL has none since 1.13. Pretraining: the texts are the arms of the curation run.",
        "- A reward model's score plus `reward_offset` of its config.json is the normalised reward. `start/` of a",
        "  reward stage is the model it began with, the head's first weights included.",
    ]
    if any(entry.begins_with is None and command(entry) for entry in found):
        lines.append("- MODEL stands for the model the stage began with; it is not part of the run.")
    if lists := sum(entry.lists for entry in found):
        lines.append(
            f"- {lists:,} ranked lists became all their pairs: TRL has no lists, and sees each answer of K in K − 1 "
            "pairs."
        )
    if any(isinstance(entry.settings.get("lora"), dict) for entry in found):
        lines.append("- A stage with LoRA needs `--use_peft` and its rank, see `experiment.json` of the run.")
    return "\n".join(lines) + "\n"
