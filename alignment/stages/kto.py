"""Kahneman–Tversky optimisation: responses judged one by one, desirable or not → a policy.

    kto(KtoSettings(beta=0.1), Path("runs/sft"), Path("judged.jsonl.zst"), Path("runs/kto"), seed=0)

The reference point z of a step is max(0, mean of log π(y' | x) − log π_ref(y' | x)) over mismatched pairs: every prompt
of the step with the response of the row before it, cyclically, in the step's frozen order. A row of the same prompt or
with the same response is no mismatch and is stepped over. z is taken over the whole step, whatever the micro-batches
are, and carries no gradient.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
from alignment.losses import kto_loss
from alignment.preferences import JudgedRow, read_judged
from alignment.reference import by_length, response_log_probs
from alignment.rows import Example, encode, pad
from alignment.stage import StageResult
from curation.errors import ConfigError, DataContractError, Problem
from curation.seeding import derive_seed

BALANCE = (1.0, 4 / 3)  # Ethayarajh 2024 (arXiv 2402.01306), eq. 8: where λ_D n_D / (λ_U n_U) should lie


class KtoSettings(DirectSettings):
    """Defaults: the settings its authors publish for models of billions of weights (ContextualAI/HALOs, config.yaml).

    Models of a million weights want a learning rate of about 1e-4 (docs/results/alignment.md).
    """

    loop: LoopSettings = LoopSettings(
        learning_rate=5e-6,
        schedule="linear",
        warmup=0.1,
        final=0.0,
        beta2=0.999,  # AdamW's own; GPT-3's 0.95 is for pretraining
        weight_decay=0.0,
    )
    batch: int = Field(default=32, ge=1)  # 2 at least; the larger, the less noise in z
    desirable_weight: float | None = Field(default=None, gt=0)  # λ_D; None: so that the two sides weigh alike
    undesirable_weight: float | None = Field(default=None, gt=0)  # λ_U


def balanced_weights(settings: KtoSettings, desirable: int, undesirable: int) -> tuple[float, float]:
    """λ_D and λ_U for so many rows of each label.

    Those that are set are taken as they are. Both unset: 1 and 1 where that is within `BALANCE`, else the rarer side's
    weight is raised until both weigh alike. One unset: it balances the other.

    Returns:
        The weights; a line on stderr says so when they are out of `BALANCE`.
    """
    d, u = settings.desirable_weight, settings.undesirable_weight
    if not desirable or not undesirable:
        print(f"kto: all rows are {'un' if not desirable else ''}desirable: nothing to balance", file=sys.stderr)
        return d or 1.0, u or 1.0
    share = desirable / undesirable
    if d is None and u is None:
        within = BALANCE[0] <= share <= BALANCE[1]
        d, u = (1.0, 1.0) if within else (max(1.0, 1 / share), max(1.0, share))
    elif d is None:
        d = (u or 1.0) / share
    elif u is None:
        u = d * share
    balance = d * desirable / ((u or 1.0) * undesirable)
    if not BALANCE[0] - 1e-9 <= balance <= BALANCE[1] + 1e-9:
        said = f"{d:g} × {desirable} desirable rows over {u:g} × {undesirable} undesirable ones is {balance:.3g}"
        print(f"kto: {said}, outside [1, 4/3] (Ethayarajh 2024, eq. 8)", file=sys.stderr)
    return d, u or 1.0


def mismatched(examples: Sequence[Example], limit: int) -> list[Example | None]:
    """Every prompt with a response that was given to another prompt, cut to `limit` tokens.

    Row i gets the response of row i − 1, cyclically; of i − 2 and so on where that row has the same prompt or the same
    response. None where all rows have.
    """
    found: list[Example | None] = []
    for i, row in enumerate(examples):
        others = (examples[i - back] for back in range(1, len(examples)))
        partner = next((o for o in others if o.prompt != row.prompt and o.response != row.response), None)
        room = limit - len(row.prompt)
        found.append(None if partner is None else Example(row.prompt, partner.response[:room]))
    return found


class KtoObjective:
    """The rows of every step, their mismatched pairs, and what they lose."""

    def __init__(
        self,
        settings: KtoSettings,
        rows: Sequence[tuple[Example, bool]],
        pad_id: int,
        seed: int,
        same: bool,
        limit: int,
    ) -> None:
        """Args:
        same: the policy starts as the reference, so the first loss is known and checked.
        limit: tokens of a mismatched pair at most.

        Raises:
            ConfigError: a step has one row: there is nobody to be mismatched with.
            DataContractError: all rows of a step have one prompt.
        """
        if min(settings.batch, len(rows)) < 2:
            problem = f"a batch of {min(settings.batch, len(rows))}: its KL term needs the response to another prompt"
            raise ConfigError(Problem("kto-batch", problem, "kto.batch", "at least 2 rows"))
        self.settings = settings
        self.rows = rows
        self.pad_id = pad_id
        self.check = same
        self.order = steps(len(rows), settings.batch, settings.epochs, seed, "kto", at_least=2)
        self.steps = len(self.order)
        self.weights = balanced_weights(settings, sum(label for _, label in rows), sum(not label for _, label in rows))
        self.pairs = [mismatched([rows[i][0] for i in order.tolist()], limit) for order in self.order]
        alone = next((step for step, pairs in enumerate(self.pairs) if not any(pairs)), None)
        if alone is not None:
            hint = "a larger batch, or rows of more prompts"
            where = f"step {alone + 1}"
            raise DataContractError(Problem("one-prompt", "all rows of a step have one prompt", where, "two", hint))
        self.reference = torch.zeros(0)
        self.pair_reference: list[Tensor] = []
        self._step = 0
        self._z: Tensor | None = None
        self._labels = [0, 0]  # desirable and undesirable rows of the step

    def examples(self) -> list[Example]:
        """What the reference has to score: every row, then every mismatched pair of every step."""
        return [example for example, _ in self.rows] + [e for pairs in self.pairs for e in pairs if e is not None]

    def set_reference(self, log_probs: Tensor) -> None:
        """Take log π_ref of `examples`, in their order."""
        self.reference = log_probs[: len(self.rows)]
        begin = len(self.rows)
        for pairs in self.pairs:
            end = begin + sum(pair is not None for pair in pairs)
            self.pair_reference.append(log_probs[begin:end])
            begin = end

    def batch(self, step: int) -> list[Micro]:
        """The step's rows, rows of like length together. The mismatched pairs' tokens count as the first one's."""
        self._step, self._z = step, None
        rows = self.order[step].tolist()
        self._labels = [sum(self.rows[row][1] is label for row in rows) for label in (True, False)]
        groups = by_length([len(self.rows[row][0]) for row in rows], self.settings.micro)
        extra = sum(len(pair) for pair in self.pairs[step] if pair is not None)
        return [self._micro([rows[i] for i in group], 0 if k else extra) for k, group in enumerate(groups)]

    def _micro(self, rows: Sequence[int], extra_tokens: int) -> Micro:
        batch = pad([self.rows[row][0] for row in rows], self.pad_id)
        tensors = {
            "ids": batch.ids,
            "mask": batch.mask,
            "response": batch.response,
            "reference": self.reference[list(rows)],
            "desirable": torch.tensor([self.rows[row][1] for row in rows]),
        }
        return Micro(tensors, len(rows), int(batch.mask.sum()) + extra_tokens)

    def reference_point(self, model: Any, where: torch.device) -> Tensor:
        """z of the step that `batch` was last asked for: a scalar ≥ 0."""
        pairs = [pair for pair in self.pairs[self._step] if pair is not None]
        total = torch.zeros((), device=where)
        with torch.no_grad():
            for group in by_length([len(pair) for pair in pairs], self.settings.micro):
                batch = pad([pairs[i] for i in group], self.pad_id)
                ours = response_log_probs(model, batch.ids.to(where), batch.mask.to(where), batch.response.to(where))
                total += (ours - self.pair_reference[self._step][group].to(where)).sum()
        return (total / len(pairs)).clamp(min=0)

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss summed over rows; to log: z and the mean reward of each label."""
        s, t = self.settings, micro.tensors
        if self._z is None:  # the weights do not move within a step
            self._z = self.reference_point(model, t["ids"].device)
        ratio = response_log_probs(model, t["ids"], t["mask"], t["response"]) - t["reference"]
        losses = kto_loss(ratio, t["desirable"], self._z, s.beta, *self.weights)
        if self.check and self._step == 0:
            expected = torch.where(t["desirable"], *self.weights) / 2
            check_start(losses, expected, wants_bf16(s.loop.precision, losses.device), "kto: step 1")
        reward = s.beta * ratio.detach()
        logged = {"z": self._z * micro.units}
        for name, chosen, count in zip(
            ("reward_desirable", "reward_undesirable"), (t["desirable"], ~t["desirable"]), self._labels, strict=True
        ):
            if count:  # the engine divides by the rows of the step; a mean reward is over those of one label
                logged[name] = reward[chosen].sum() * (sum(self._labels) / count)
        return losses.sum(), logged


def kto(
    settings: KtoSettings,
    policy: str | Path,
    rows: Sequence[JudgedRow] | Path,
    folder: Path,
    seed: int,
    reference: str | Path | None = None,
    **labels: Any,
) -> StageResult:
    """Train `policy` towards desirable responses and away from the others.

    Args:
        policy: a Hugging Face model directory or hub name; its tokenizer is used and written along.
        rows: judged responses, or a file of them.
        folder: gets the model, `reference.safetensors`, `metrics.jsonl` and `stage.json`.
        reference: a model directory or hub name; None: the policy as it starts.
        labels: `arm`.

    Returns:
        The result. Of held-out prompts its metrics have `margin_gain` with `_low` and `_high`: how much more
        log π(y | x) rose for desirable responses than for the others, in nats, with a 95 % interval over prompts;
        `reward_desirable`, `reward_undesirable`: means of β log(π / π_ref); `kl_per_token` to the reference.

    Raises:
        ConfigError: a setting, model or tokenizer that cannot be used; nothing was trained.
        DataContractError: no row is left, or a file beside the stage is damaged.
        StageError: training could not go on.
    """
    judged = read_judged(rows) if isinstance(rows, Path) else rows
    begun = begin("kto", settings, policy, judged, folder, seed, reference, labels)
    if isinstance(begun, StageResult):
        return begun
    trained, held, keys, fates = _encoded(begun, judged)
    objective = KtoObjective(settings, trained, begun.pad_id, seed, begun.same, begun.limit)
    held_examples = [example for example, _ in held]
    log_probs = begun.reference_log_probs([*held_examples, *objective.examples()])
    theirs = log_probs[: len(held)]
    objective.set_reference(log_probs[len(held) :])
    before = theirs if begun.same else begun.held_out_log_probs(held_examples)
    begun.model = with_lora(begun.model, settings.lora, derive_seed(seed, "kto", "lora") & 0xFFFFFFFF)
    progress = begun.train(objective)
    metrics = {
        "rows": float(len(trained)),
        "held_out": float(len(held)),
        "desirable_weight": objective.weights[0],
        "undesirable_weight": objective.weights[1],
    }
    if held:
        after = begun.held_out_log_probs(held_examples)
        metrics |= held_out_metrics(before, after, theirs, [label for _, label in held], settings.beta, keys)
        metrics["kl_per_token"] = begun.kl_per_token(held_examples)
    return begun.finish(progress, metrics, fates)


def held_out_metrics(
    before: Tensor, after: Tensor, reference: Tensor, desirable: Sequence[bool], beta: float, keys: Sequence[str]
) -> dict[str, float]:
    """The numbers `kto` promises, from log-probabilities (rows,) of held-out responses.

    Args:
        keys: the prompt of each row; rows of one prompt are not independent.
    """
    good = np.array(desirable, bool)
    reward, gain = beta * to_numpy(after - reference), to_numpy(after - before)
    found = {"held_out_desirable": float(good.sum())}
    if good.any():
        found["reward_desirable"] = float(reward[good].mean())
    if not good.all():
        found["reward_undesirable"] = float(reward[~good].mean())
    if good.any() and not good.all():
        difference = gain[good].mean() - gain[~good].mean()
        # Each row's part in the difference of the two means: the clustered error of their mean is the difference's.
        part = np.where(good, gain - gain[good].mean(), gain[~good].mean() - gain) * len(good)
        part /= np.where(good, good.sum(), (~good).sum())
        found |= interval("margin_gain", part + difference, keys)
    return found


def _encoded(
    begun: Begun, rows: Sequence[JudgedRow]
) -> tuple[list[tuple[Example, bool]], list[tuple[Example, bool]], list[str], dict[str, int]]:
    """Rows to train on, rows held out, the prompts of those, and every row's fate."""
    trained: list[tuple[Example, bool]] = []
    held: list[tuple[Example, bool]] = []
    keys: list[str] = []
    fates: list[str] = []
    for row in rows:
        found, fate = encode(begun.tokenizer, row.prompt, row.response, begun.limit)
        fates.append(fate)
        if found is None:
            continue
        key = prompt_key(row.prompt)
        if is_held_out(key, begun.settings.held_out):
            held.append((found, row.label))
            keys.append(key)
        else:
            trained.append((found, row.label))
    counted = all_fates(getattr(rows, "fates", {}), fates)
    need_rows(len(trained), 2, counted, "kto")
    return trained, held, keys, counted
