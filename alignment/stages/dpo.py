"""Direct preference optimisation: pairs → a policy, without a reward model. Also IPO and conservative DPO.

dpo(DpoSettings(beta=0.1), Path("runs/sft"), Path("pairs.jsonl.zst"), Path("runs/dpo"), seed=0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from alignment.direct import (
    Begun,
    DirectSettings,
    all_fates,
    begin,
    check_start,
    interval,
    is_held_out,
    need_rows,
    prompt_key,
    steps,
    to_numpy,
)
from alignment.loop import LoopSettings, Micro, wants_bf16
from alignment.lora import with_lora
from alignment.losses import dpo_loss
from alignment.preferences import PreferenceRow, read_preferences
from alignment.reference import by_length, response_log_probs
from alignment.rows import Example, encode_responses, pad
from alignment.stage import StageResult
from curation.errors import ConfigError, Problem
from curation.seeding import derive_seed

Pair = tuple[Example, Example]  # chosen, rejected


class DpoSettings(DirectSettings):
    """Defaults: Rafailov 2023 (arXiv 2305.18290), App. B, with AdamW for RMSprop, for models of billions of weights.

    Models of a million weights want a learning rate of about 1e-4 (docs/results/alignment.md).
    """

    loop: LoopSettings = LoopSettings(
        learning_rate=1e-6,
        schedule="linear",
        warmup=0.1,  # a tenth of the steps as Tunstall 2023 (arXiv 2310.16944); App. B has 150 steps
        final=0.0,
        beta2=0.999,  # AdamW's own; GPT-3's 0.95 is for pretraining
        weight_decay=0.0,
    )
    kind: Literal["dpo", "ipo"] = "dpo"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)  # ε of cDPO; at 0.5 a label says nothing


class DpoObjective:
    """The pairs of every step and what they lose; both responses of a pair go through the model in one batch."""

    def __init__(
        self, settings: DpoSettings, pairs: Sequence[Pair], reference: Tensor, pad_id: int, seed: int, same: bool
    ) -> None:
        """Args:
        reference: (pairs, 2) log π_ref of chosen and rejected.
        same: the policy starts as the reference, so the first loss is known and checked.
        """
        self.settings = settings
        self.pairs = pairs
        self.reference = reference
        self.pad_id = pad_id
        self.order = steps(len(pairs), settings.batch, settings.epochs, seed, "dpo")
        self.steps = len(self.order)
        self.check = same
        self.lengths = [max(len(chosen), len(rejected)) for chosen, rejected in pairs]
        self._step = 0

    def batch(self, step: int) -> list[Micro]:
        """The step's pairs, pairs of like length together."""
        self._step = step
        rows = self.order[step].tolist()
        groups = by_length([self.lengths[row] for row in rows], self.settings.micro)
        return [self._micro([rows[i] for i in group]) for group in groups]

    def _micro(self, rows: Sequence[int]) -> Micro:
        examples = [self.pairs[row][side] for side in (0, 1) for row in rows]
        batch = pad(examples, self.pad_id)
        tensors = {
            "ids": batch.ids,
            "mask": batch.mask,
            "response": batch.response,
            "reference": self.reference[list(rows)].T.flatten(),
        }
        return Micro(tensors, len(rows), int(batch.mask.sum()))

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss summed over pairs; rewards, margin and accuracy as sums."""
        s, t = self.settings, micro.tensors
        ratio = response_log_probs(model, t["ids"], t["mask"], t["response"]) - t["reference"]
        better, worse = (s.beta * ratio.detach()).chunk(2)
        if s.kind == "ipo":
            ratio = ratio / t["response"].sum(1)
        chosen, rejected = ratio.chunk(2)
        losses = dpo_loss(chosen, rejected, s.beta, s.kind, s.label_smoothing)
        if self.check and self._step == 0:
            expected = torch.tensor(1 / (2 * s.beta) ** 2 if s.kind == "ipo" else math.log(2))
            check_start(losses, expected, wants_bf16(s.loop.precision, losses.device), f"{s.kind}: step 1")
        logged = {
            "reward_chosen": better.sum(),
            "reward_rejected": worse.sum(),
            "margin": (better - worse).sum(),
            "accuracy": (better > worse).float().sum(),
        }
        return losses.sum(), logged


def dpo(
    settings: DpoSettings,
    policy: str | Path,
    rows: Sequence[PreferenceRow] | Path,
    folder: Path,
    seed: int,
    reference: str | Path | None = None,
    **labels: Any,
) -> StageResult:
    """Train `policy` to prefer the chosen responses.

    Args:
        policy: a Hugging Face model directory or hub name; its tokenizer is used and written along.
        rows: pairs, or a file of them.
        folder: gets the model, `reference.safetensors`, `metrics.jsonl` and `stage.json`.
        reference: a model directory or hub name; None: the policy as it starts.
        labels: `arm`.

    Returns:
        The result. Of held-out prompts its metrics have, in nats: `margin_before` and `margin_after`, the mean of
        log π(chosen) − log π(rejected); their difference `margin_gain` with `_low` and `_high`, a 95 % interval over
        prompts; `accuracy_before`, `accuracy_after`, the share of pairs with the chosen response more likely;
        `reward_chosen`, `reward_rejected` and `reward_accuracy` of β log(π / π_ref); `kl_per_token` to the reference.

    Raises:
        ConfigError: a setting, model or tokenizer that cannot be used; nothing was trained.
        DataContractError: no row is left, or a file beside the stage is damaged.
        StageError: training could not go on.
    """
    if settings.kind == "ipo" and settings.label_smoothing:
        raise ConfigError(
            Problem("bad-value", "`label_smoothing` has no meaning for `ipo`", "dpo.label_smoothing", "0, or kind: dpo")
        )
    pairs_of = read_preferences(rows) if isinstance(rows, Path) else rows
    begun = begin("dpo", settings, policy, pairs_of, folder, seed, reference, labels)
    if isinstance(begun, StageResult):
        return begun
    pairs, held, keys, fates = _encoded(begun, pairs_of)
    log_probs = begun.reference_log_probs([example for pair in [*pairs, *held] for example in pair]).view(-1, 2)
    theirs = log_probs[len(pairs) :]
    flat = [example for pair in held for example in pair]
    before = theirs if begun.same else begun.held_out_log_probs(flat).view(-1, 2)
    objective = DpoObjective(settings, pairs, log_probs[: len(pairs)], begun.pad_id, seed, begun.same)
    begun.model = with_lora(begun.model, settings.lora, derive_seed(seed, "dpo", "lora") & 0xFFFFFFFF)
    progress = begun.train(objective)
    after = begun.held_out_log_probs(flat).view(-1, 2)
    metrics: dict[str, float] = {"pairs": float(len(pairs)), "held_out": float(len(held))}
    if held:
        metrics |= held_out_metrics(before, after, theirs, settings.beta, keys)
        metrics["kl_per_token"] = begun.kl_per_token([chosen for chosen, _ in held])
    return begun.finish(progress, metrics, fates)


def held_out_metrics(
    before: Tensor, after: Tensor, reference: Tensor, beta: float, keys: Sequence[str]
) -> dict[str, float]:
    """The numbers `dpo` promises, from log-probabilities (pairs, 2) of chosen and rejected.

    Args:
        keys: the prompt of each pair; pairs of one prompt are not independent.
    """
    margins = {name: to_numpy(values[:, 0] - values[:, 1]) for name, values in (("before", before), ("after", after))}
    rewards = beta * to_numpy(after - reference)
    return {
        "margin_before": float(margins["before"].mean()),
        "margin_after": float(margins["after"].mean()),
        **interval("margin_gain", margins["after"] - margins["before"], keys),
        "accuracy_before": float((margins["before"] > 0).mean()),
        "accuracy_after": float((margins["after"] > 0).mean()),
        **interval("reward_accuracy", (rewards[:, 0] > rewards[:, 1]).astype(float), keys),
        "reward_chosen": float(rewards[:, 0].mean()),
        "reward_rejected": float(rewards[:, 1].mean()),
    }


def _encoded(begun: Begun, rows: Sequence[PreferenceRow]) -> tuple[list[Pair], list[Pair], list[str], dict[str, int]]:
    """Pairs to train on, pairs held out, the prompts of those, and every row's fate."""
    pairs: list[Pair] = []
    held: list[Pair] = []
    keys: list[str] = []
    fates: list[str] = []
    for row in rows:
        found, fate = encode_responses(begun.tokenizer, row.prompt, (row.chosen, row.rejected), begun.limit)
        fates.append(fate)
        if found is None:
            continue
        key = prompt_key(row.prompt)
        if is_held_out(key, begun.settings.held_out):
            held.append((found[0], found[1]))
            keys.append(key)
        else:
            pairs.append((found[0], found[1]))
    counted = all_fates(getattr(rows, "fates", {}), fates)
    need_rows(len(pairs), 1, counted, "dpo")
    return pairs, held, keys, counted
