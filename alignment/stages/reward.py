"""A reward model from pairs, ranked lists and ratings: a scalar for each response, higher for what people prefer.

    reward(RewardSettings(), Path("runs/sft"), Path("pairs.jsonl.zst"), Path("runs/reward"), seed=0)

1. rows       encoded, fates counted, some prompts held out
2. backbone   a language model without its head, cut to its lower layers; or the reward model of an earlier round
3. train      −log σ(r_i − r_j) over the pairs of each row, one forward pass for each response
4. measure    accuracy, calibration and its plot on held-out pairs
5. normalise  gain and bias, so that rewards of a shared reference set have mean 0 and standard deviation 1
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from alignment import processes
from alignment.calibration_plot import pair_report, reliability_svg
from alignment.data_card import write_data_card
from alignment.direct import (
    all_fates,
    interval,
    is_held_out,
    need_rows,
    prompt_key,
    steps,
    to_numpy,
    without_dropout,
)
from alignment.json_rows import write_text
from alignment.layers import shorten
from alignment.loop import LoopSettings, Micro, Progress, StageSettings, train
from alignment.lora import LoraSettings, merged, save_adapter, with_lora
from alignment.losses import centring, list_loss, pair_loss
from alignment.model import REWARD_HEAD, RewardModel, load_model, parameters, weights_sha256
from alignment.preference_rows import Comparison, DemonstrationRow, PreferenceRow, rows_sha256
from alignment.preferences import read_comparisons, read_demonstrations, write_rows
from alignment.reward_scores import example_rewards, last_scores, normalise
from alignment.rows import Example, check_tokenizer, encode, encode_responses, pad
from alignment.stage import StageResult, finish_stage, finished_stage
from alignment.tokenizer import load_tokenizer, tokenizer_sha256
from curation.errors import DataContractError, Problem, StageError
from curation.fingerprint import fingerprint
from curation.seeding import unit_hash

NORMALISE_SEED = 7  # the same reference responses in every arm and for every seed
ROWS_FILE = "rows.jsonl.zst"  # what a stage learnt from, beside its stage.json: `export-trl` reads it


class RewardSettings(StageSettings):
    """One epoch, 64 rows a step and Adam's β as Ouyang 2022 (arXiv 2203.02155, App. C) trains its reward models.

    The learning rate is TRL's (1.16, `RewardConfig`): the 9e-6 of Ouyang is for 6 billion parameters.
    """

    loop: LoopSettings = LoopSettings(
        learning_rate=1e-4,
        schedule="cosine",
        warmup=0.03,
        final=0.1,  # Ouyang 2022, App. C.2: "dropping to 10 % of its initial value"
        weight_decay=0.0,
    )
    epochs: int = Field(default=1, ge=1)  # Ouyang 2022, App. C.2: more than one overfits
    batch: int = Field(default=64, ge=1)  # pairs or lists a step
    micro: int = Field(default=16, ge=2)  # responses through the model at once; changes memory and speed, not the step
    length: int | None = Field(default=None, ge=8)  # tokens of prompt and response; None: the model's context
    held_out: float = Field(default=0.1, ge=0, lt=1)  # share of the prompts
    # c of c (r_w + r_l)²; 0.01 is usual where rewards are not normalised afterwards (Eisenstein 2023, arXiv 2312.09244)
    centring: float = Field(default=0.0, ge=0)
    # Share of the backbone's layers that are kept, from the bottom. A reward model smaller than the policy costs less
    # in every rollout, and is steadier: Ouyang 2022 (section 3.5) takes 6B for a policy of 175B, since the large one
    # "could be unstable". Lower layers do for a classifier's work: Sajjad 2020 (arXiv 2004.03844) drops the upper
    # 40 % and keeps 98 % of the accuracy. Set 1 when the backbone is a smaller model already.
    keep_layers: float = Field(default=0.5, gt=0, le=1)
    normalise_on: int = Field(default=512, ge=2)  # responses, when no reference rows are given
    lora: LoraSettings | None = None


@dataclass(frozen=True)
class Compared:
    """One pair or list as ids, best first."""

    key: str  # of the prompt
    examples: tuple[Example, ...]
    ranks: tuple[int, ...]
    margin: float | None  # of a pair; None: a list

    @property
    def longest(self) -> int:
        return max(len(example) for example in self.examples)

    def pairs(self) -> list[tuple[int, int]]:
        """(better, worse) places of all ordered pairs."""
        places = range(len(self.ranks))
        return [(i, j) for i in places for j in places if self.ranks[i] < self.ranks[j]]


class RewardObjective:
    """The rows of every step and what they lose. A list of K is one unit: K forward passes, all its pairs at once.

    Were each of the C(K, 2) pairs a row of its own, a response would be seen K − 1 times in an epoch, and the model
    overfits (Ouyang 2022, section 3.5).
    """

    def __init__(self, settings: RewardSettings, rows: Sequence[Compared], pad_id: int, seed: int) -> None:
        self.settings = settings
        self.rows = rows
        self.pad_id = pad_id
        self.order = steps(len(rows), settings.batch, settings.epochs, seed, "reward")
        self.steps = len(self.order)

    def batch(self, step: int) -> list[Micro]:
        """The step's rows; pairs and lists apart, rows of like length together, at most `micro` responses at once."""
        chosen = sorted((int(at) for at in self.order[step]), key=self._place)
        groups: list[list[Compared]] = []
        size = 0
        for row in (self.rows[at] for at in chosen):
            fits = groups and size + len(row.examples) <= self.settings.micro
            if not fits or (groups[-1][0].margin is None) != (row.margin is None):
                groups.append([])
                size = 0
            groups[-1].append(row)
            size += len(row.examples)
        return [micro(group, self.pad_id) for group in groups]

    def _place(self, at: int) -> tuple[bool, int, int]:
        row = self.rows[at]
        return row.margin is None, row.longest, at

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Summed over the micro-batch's rows, with accuracy, margin and mean reward to log."""
        given = micro.tensors
        scores = last_scores(model, given["ids"], given["mask"])
        table = scores[given["places"]]
        if "margin" in given:
            better, worse = table.unbind(1)
            losses = pair_loss(better, worse, given["margin"])
            middle = centring(better, worse)
            right, apart = (better > worse).float(), better - worse
        else:
            losses = list_loss(table, given["ranks"], given["present"])
            above = given["ranks"].unsqueeze(2) < given["ranks"].unsqueeze(1)
            above = above & given["present"].unsqueeze(2) & given["present"].unsqueeze(1)
            first, second = table.unsqueeze(2), table.unsqueeze(1)
            middle = _pair_mean(centring(first, second), above)
            right, apart = _pair_mean((first > second).float(), above), _pair_mean(first - second, above)
        if self.settings.centring:
            losses = losses + self.settings.centring * middle
        rewards = (table * given["present"]).sum(1) / given["present"].sum(1)
        return losses.sum(), {"accuracy": right.sum(), "margin": apart.sum(), "reward": rewards.sum()}


def _pair_mean(values: Tensor, above: Tensor) -> Tensor:
    """(lists,) mean of `values` (lists, K, K) over the ordered pairs."""
    return (values * above).sum((1, 2)) / above.sum((1, 2)).clamp(min=1)


def micro(rows: Sequence[Compared], pad_id: int) -> Micro:
    """Rows of one kind as tensors: ids, mask (responses, tokens); places, ranks, present (rows, K); margin (rows,)."""
    examples = [example for row in rows for example in row.examples]
    batch = pad(examples, pad_id)
    widest = max(len(row.examples) for row in rows)
    places, ranks = [], []
    begin = 0
    for row in rows:
        size = len(row.examples)
        rest = [0] * (widest - size)
        places.append([*range(begin, begin + size), *rest])
        ranks.append([*row.ranks, *rest])
        begin += size
    order = torch.tensor(ranks)
    tensors = {
        "ids": batch.ids,
        "mask": batch.mask,
        "places": torch.tensor(places),
        "ranks": order,
        "present": order > 0,  # ranks count from 1
    }
    if rows[0].margin is not None:
        tensors["margin"] = torch.tensor([row.margin or 0.0 for row in rows])
    return Micro(tensors, units=len(rows), tokens=int(batch.mask.sum()))


def reward(
    settings: RewardSettings,
    backbone: str | Path,
    rows: Sequence[Comparison] | Path,
    folder: Path,
    seed: int,
    reference: Sequence[DemonstrationRow] | Path | None = None,
    files: Sequence[Path] = (),
    **labels: Any,
) -> StageResult:
    """Train a reward model and write it to `folder`, with `rows.jsonl.zst`, `data_card.json` and `.md`,
    `calibration.json` and `.svg`.

    Args:
        backbone: a causal language model, of which `keep_layers` is kept; or the directory of an earlier reward model,
            which is trained further as it is.
        rows: pairs and ranked lists, or the file they stand in (`read_comparisons`: ratings too).
        reference: responses on which rewards get mean 0 and standard deviation 1; the same in every arm. None:
            `normalise_on` responses of the rows, chosen by hash and so the same in every arm.
        files: where rows that are no file came from, for the data card.
        labels: `arm`.

    Returns:
        Metrics: accuracy with its Wilson interval, ECE, log loss and the calibration curve on held-out pairs,
        gain and bias, parameters.

    Raises:
        ConfigError: no such model, an unfit tokenizer, layers that cannot be cut, or another stage in `folder`.
        DataContractError: a file is damaged, or no row is left to train on.
        StageError: a loss or a reward is not finite, all rewards alike, the disk full, or the time slice over.
    """
    given = read_comparisons(rows) if isinstance(rows, Path) else rows
    shown = read_demonstrations(reference) if isinstance(reference, Path) else reference
    tokenizer = load_tokenizer(backbone)
    check_tokenizer(tokenizer, str(backbone))
    model = start(settings, backbone, seed)
    made_of: dict[str, Any] = {
        "settings": settings.model_dump(),
        "backbone": weights_sha256(model),
        "rows": rows_sha256(given),
    }
    made_of |= {"reference": None if shown is None else rows_sha256(shown)}
    mark = fingerprint({"stage": "reward", "tokenizer": tokenizer_sha256(tokenizer), "seed": seed, **made_of})
    done = finished_stage(folder, mark)
    if done is not None:
        return done
    limit = longest(settings, model)
    learnt, held, fates = encoded(tokenizer, given, limit, settings.held_out)
    responses = reference_examples(settings, tokenizer, shown, [*held, *learnt], limit)
    pad_id = int(tokenizer.pad_token_id)
    if processes.first():
        write_rows(folder / ROWS_FILE, given)
    write_data_card(folder, given, [rows] if isinstance(rows, Path) else files)

    progress = fit(model, settings, learnt, pad_id, folder, seed)
    metrics = {**measure(model, held, pad_id, folder), **normalise(model, responses, pad_id)}
    metrics |= {f"train_{name}": value for name, value in progress.means.items()}
    metrics["parameters"] = float(parameters(model))
    model.cpu().save(folder, tokenizer)
    return finish_stage(folder, "reward", mark, weights_sha256(model), progress, metrics, fates, seed=seed, **labels)


def longest(settings: RewardSettings, model: RewardModel) -> int:
    """Tokens of prompt and response at most: the model's context, or less where the settings say so."""
    context = int(getattr(model.backbone.config, "max_position_embeddings", 0) or settings.length or 1024)
    return min(context, settings.length or context)


def fit(
    model: RewardModel, settings: RewardSettings, rows: Sequence[Compared], pad_id: int, folder: Path, seed: int
) -> Progress:
    """Train, with an adapter if the settings have one; it is kept in `folder/adapter` and merged."""
    model.backbone = with_lora(model.backbone, settings.lora, seed)
    progress = train(model, RewardObjective(settings, rows, pad_id, seed), settings.loop, folder, seed)
    save_adapter(model.backbone, folder)
    model.backbone = merged(model.backbone)
    return progress


def start(settings: RewardSettings, backbone: str | Path, seed: int) -> RewardModel:
    """The model that training begins with.

    Raises:
        ConfigError: no such model, or its layers cannot be told apart.
    """
    if (Path(backbone) / REWARD_HEAD).is_file():
        model = RewardModel.load(backbone)
        nn.init.ones_(model.gain)  # of the earlier round: measured anew
        nn.init.zeros_(model.bias)
    else:
        decoder = load_model(backbone).get_decoder()
        shorten(decoder, settings.keep_layers, str(backbone))
        model = RewardModel(decoder, seed)
    without_dropout(model)
    return model


def encoded(
    tokenizer: Any, rows: Sequence[Comparison], limit: int, share: float
) -> tuple[list[Compared], list[Compared], dict[str, int]]:
    """Rows to train on, rows of held-out prompts, and every row's fate.

    Raises:
        DataContractError: no row is left to train on.
    """
    learnt: list[Compared] = []
    held: list[Compared] = []
    fates: list[str] = []
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    for row in rows:
        margin: float | None = None
        if isinstance(row, PreferenceRow):
            responses, ranks, margin = (row.chosen, row.rejected), (1, 2), row.margin
        else:
            responses, ranks = row.responses, row.ranks
        if len(set(ranks)) < 2:
            fates.append("skipped_tie")
            continue
        found, fate = encode_responses(tokenizer, row.prompt, responses, limit)
        fates.append(fate)
        if found is None:
            continue
        order = sorted(range(len(ranks)), key=lambda at: ranks[at])
        compared = Compared(
            prompt_key(row.prompt),
            tuple(found[at] for at in order),
            tuple(ranks[at] for at in order),
            margin,
        )
        (held if is_held_out(compared.key, share) else learnt).append(compared)
    counted = all_fates(getattr(rows, "fates", {}), fates)
    need_rows(len(learnt), 1, counted, "reward")
    return learnt, held, counted


def reference_examples(
    settings: RewardSettings,
    tokenizer: Any,
    shown: Sequence[DemonstrationRow] | None,
    rows: Sequence[Compared],
    limit: int,
) -> list[Example]:
    """The responses to normalise on.

    Raises:
        DataContractError: fewer than two of the reference rows can be encoded.
    """
    if shown is None:
        examples = [example for row in rows for example in row.examples]
        drawn = sorted(range(len(examples)), key=lambda at: unit_hash(str(examples[at]), NORMALISE_SEED))
        return [examples[at] for at in drawn[: settings.normalise_on]]
    pairs = [encode(tokenizer, row.prompt, row.response, limit) for row in shown]
    kept = [example for example, _ in pairs if example is not None]
    if len(kept) < 2:
        raise DataContractError(
            Problem("no-rows", f"{len(kept)} of {len(shown)} reference rows can be encoded", "reference", "at least 2")
        )
    return kept


def measure(model: RewardModel, held: Sequence[Compared], pad_id: int, folder: Path) -> dict[str, float]:
    """Numbers on held-out rows, with `calibration.json` and `calibration.svg`; without such rows nothing but their
    number.

    `accuracy_low` and `accuracy_high` are Wilson's, of independent pairs; `accuracy_by_prompt_low` and `_high` know
    that the pairs of one prompt hang together.
    """
    if not held:
        return {"held_out_pairs": 0.0}
    examples = [example for row in held for example in row.examples]
    rewards = to_numpy(example_rewards(model, examples, pad_id, normalised=False))
    better, worse, keys = [], [], []
    begin = 0
    for row in held:
        for i, j in row.pairs():
            better.append(rewards[begin + i])
            worse.append(rewards[begin + j])
            keys.append(row.key)
        begin += len(row.examples)
    report = pair_report(np.array(better), np.array(worse))
    if processes.first():
        try:
            write_text(folder / "calibration.json", json.dumps(report.plain(), indent=1) + "\n")
            write_text(folder / "calibration.svg", reliability_svg(report, "Reward model"))
        except OSError as error:
            raise StageError(Problem("not-written", f"cannot write: {error}", str(folder))) from None
    right = (np.array(better) > np.array(worse)).astype(np.float64)
    by_prompt = interval("accuracy_by_prompt", right, keys)
    by_prompt.pop("accuracy_by_prompt", None)
    return {**report.numbers(), **by_prompt}
