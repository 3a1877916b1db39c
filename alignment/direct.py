"""What the stages that learn from preferences directly share: DPO and KTO.

1. begin      policy, tokenizer, reference; the fingerprint; a finished stage is not repeated
2. rows       encoded, their fates counted, some prompts held out
3. reference  its log-probabilities of every response, from `reference.safetensors` or computed now
4. train      the stage's own objective; before the first step policy = reference is checked by its loss
5. finish     held-out numbers, adapter merged, model written
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from alignment import processes
from alignment.loop import Objective, Progress, StageSettings, device, train, wants_bf16
from alignment.lora import LoraSettings, merged, save_adapter
from alignment.model import load_model, save_model, weights_sha256
from alignment.preference_rows import AnyRow, Prompt, plain_prompt, rows_sha256
from alignment.reference import (
    example_log_probs,
    examples_sha256,
    kept_log_probs,
    over_examples,
    response_logits,
    row_sums,
)
from alignment.rows import Example, Padded, check_tokenizer
from alignment.stage import StageResult, finish_stage, finished_stage
from alignment.statistics.clusters import clustered_interval
from alignment.tokenizer import load_tokenizer, tokenizer_sha256
from curation.errors import DataContractError, Problem, StageError
from curation.fingerprint import canonical_json, fingerprint
from curation.seeding import derive_seed, unit_hash

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

HELD_OUT_SEED = 5  # the same prompts in every arm and for every seed
# Mean difference allowed between the first losses and their closed form, as a share of it. fp32: sums over a thousand
# tokens differ by some 1e-5 between paddings; bf16 rounds every logit to 8 bits.
START_TOLERANCE = {False: 1e-3, True: 5e-2}


class DirectSettings(StageSettings):
    """What DPO and KTO have in common; each names its own defaults with their sources."""

    beta: float = Field(default=0.1, gt=0)
    epochs: int = Field(default=1, ge=1)
    batch: int = Field(default=64, ge=1)  # rows a step
    micro: int = Field(default=8, ge=1)  # rows through the model at once; changes memory and speed, not the step
    length: int | None = Field(default=None, ge=8)  # tokens of prompt and response; None: the model's context
    held_out: float = Field(default=0.1, ge=0, lt=1)  # share of the prompts
    lora: LoraSettings | None = None


@dataclass
class Begun:
    """A stage that is to be run."""

    stage: str
    settings: DirectSettings
    model: Any
    tokenizer: Any
    policy_weights: str
    reference: str
    reference_weights: str
    folder: Path
    fingerprint: str
    seed: int
    limit: int
    pad_id: int
    labels: Mapping[str, Any]

    @property
    def same(self) -> bool:
        """Whether the policy starts as the reference."""
        return self.policy_weights == self.reference_weights

    def reference_log_probs(self, examples: Sequence[Example]) -> Tensor:
        """(examples,) log π_ref, kept in `reference.safetensors`. The reference is loaded, used and let go."""

        def compute() -> Tensor:
            model = self.model if self.same else load_model(self.reference)
            return example_log_probs(model, examples, self.pad_id, self.settings.loop)

        of = {
            "weights_sha256": self.reference_weights,
            "examples_sha256": examples_sha256(examples),
            "precision": "bf16" if wants_bf16(self.settings.loop.precision, device()) else "fp32",
        }
        return kept_log_probs(self.folder / "reference.safetensors", of, self.reference, compute)

    def held_out_log_probs(self, examples: Sequence[Example]) -> Tensor:
        """(examples,) log π under the policy as it is now."""
        return example_log_probs(self.model, examples, self.pad_id, self.settings.loop)

    def train(self, objective: Objective) -> Progress:
        """Run the objective to its end, or to the end of the time slice."""
        return train(self.model, objective, self.settings.loop, self.folder, self.seed)

    def kl_per_token(self, examples: Sequence[Example]) -> float:
        """Mean KL(π(· | context) ‖ π_ref(· | context)) in nats over every token of the responses of `examples`.

        Exact over the vocabulary, at the contexts of the data: no sampling.
        """
        reference = load_model(self.reference).to(device()).eval()

        def score(model: Any, batch: Padded) -> Tensor:
            ours = response_logits(model, batch.ids, batch.mask, batch.response).float().log_softmax(1)
            theirs = response_logits(reference, batch.ids, batch.mask, batch.response).float().log_softmax(1)
            return row_sums((ours.exp() * (ours - theirs)).sum(1), batch.response)

        sums = over_examples(self.model, examples, self.pad_id, self.settings.loop, score)
        return float(sums.double().sum()) / max(1, sum(len(example.response) for example in examples))

    def finish(self, progress: Progress, metrics: Mapping[str, float], rows: Mapping[str, int]) -> StageResult:
        """Merge the adapter, write the model directory, close the stage."""
        first = processes.first()
        if first:
            save_adapter(self.model, self.folder)
        self.model = merged(self.model).cpu()
        if first:
            save_model(self.model, self.tokenizer, self.folder)
        weights = weights_sha256(self.model)
        return finish_stage(
            self.folder, self.stage, self.fingerprint, weights, progress, metrics, rows, seed=self.seed, **self.labels
        )


def begin(
    stage: str,
    settings: DirectSettings,
    policy: str | Path,
    rows: Sequence[AnyRow],
    folder: Path,
    seed: int,
    reference: str | Path | None,
    labels: Mapping[str, Any],
) -> Begun | StageResult:
    """Load what a stage starts from, or return the result it already has.

    Raises:
        ConfigError: no such model, an unfit tokenizer, or the folder holds another stage.
    """
    tokenizer = load_tokenizer(policy)
    check_tokenizer(tokenizer, str(policy))
    model = load_model(policy)
    without_dropout(model)
    ours = weights_sha256(model)
    theirs = ours if reference is None else weights_sha256(load_model(reference))
    made_of = {
        "stage": stage,
        "settings": identity(settings),
        "policy": ours,
        "reference": theirs,
        "tokenizer": tokenizer_sha256(tokenizer),
        "rows": rows_sha256(rows),
        "seed": seed,
    }
    mark = fingerprint(made_of)
    done = finished_stage(folder, mark)
    if done is not None:
        return done
    context = int(getattr(model.config, "max_position_embeddings", 0) or settings.length or 1024)
    return Begun(
        stage=stage,
        settings=settings,
        model=model,
        tokenizer=tokenizer,
        policy_weights=ours,
        reference=str(policy if reference is None else reference),
        reference_weights=theirs,
        folder=folder,
        fingerprint=mark,
        seed=seed,
        limit=min(context, settings.length or context),
        pad_id=int(tokenizer.pad_token_id),
        labels=labels,
    )


def identity(settings: DirectSettings) -> dict[str, Any]:
    """The settings that decide the result: not how often it is logged or kept, nor how long a slice is."""
    plain = settings.model_dump()
    for name in ("log_every", "checkpoint_every_s", "stop_after_s"):
        plain["loop"].pop(name, None)
    return plain


def without_dropout(model: nn.Module) -> None:
    """Turn dropout off for good: with it, policy and reference would differ before the first step."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]


def prompt_key(prompt: Prompt) -> str:
    """A prompt as one text: what rows of the same prompt share."""
    return canonical_json(plain_prompt(prompt))


def is_held_out(key: str, share: float) -> bool:
    """Whether a prompt belongs to the held-out ones: by its own hash, so alike in every arm, order and seed."""
    return unit_hash(key, HELD_OUT_SEED) < share


def need_rows(count: int, at_least: int, fates: Mapping[str, int], stage: str) -> None:
    """Refuse to train on too few rows.

    Raises:
        DataContractError: fewer than `at_least` rows are left to train on.
    """
    if count < at_least:
        said = ", ".join(f"{name} {number}" for name, number in fates.items()) or "there was none"
        raise DataContractError(
            Problem("no-rows", f"{count} rows are left to train on: {said}", stage, f"at least {at_least}")
        )


def all_fates(read: Mapping[str, int], encoded: Iterable[str]) -> dict[str, int]:
    """What became of every row: `read` of those that a reader left out, `encoded` of those it handed over."""
    lost = {name: count for name, count in read.items() if name != "kept" and count}
    return dict(sorted((Counter(lost) + Counter(encoded)).items()))


def steps(rows: int, batch: int, epochs: int, seed: int, stage: str, at_least: int = 1) -> list[I64]:
    """The rows of every step: each epoch a frozen permutation, cut into equal steps of at most `batch` rows.

    Sizes differ by one at most, so no step is a remnant of a few rows. Where that makes a step smaller than
    `at_least`, there is one step fewer.
    """
    number = max(1, min(-(-rows // batch), rows // at_least))
    found = []
    for epoch in range(epochs):
        order = np.random.default_rng(derive_seed(seed, stage, "order", str(epoch))).permutation(rows)
        found += np.array_split(order.astype(np.int64), number)
    return found


def check_start(losses: Tensor, expected: Tensor, bf16: bool, what: str) -> None:
    """Refuse first losses that are not what equal models give.

    Args:
        losses: (rows,), one by one: errors of two rows must not cancel.
        expected: (rows,), or one for all.

    Raises:
        StageError: policy and reference are the same weights and do not give the same log-probabilities.
    """
    found, known = losses.detach().float(), expected.to(losses.device).float().expand(losses.shape)
    if float((found - known).abs().mean()) <= START_TOLERANCE[bf16] * float(known.mean()):
        return
    worst = int((found - known).abs().argmax())
    hint = "the reference's log-probabilities are not this policy's: other rows, another precision or another model"
    said = f"a row loses {float(found[worst]):.6f} before the first step"
    raise StageError(Problem("wrong-reference", said, what, f"{float(known[worst]):.6f}: policy = reference", hint))


def interval(name: str, values: F64, clusters: Sequence[str]) -> dict[str, float]:
    """`name`, `name_low`, `name_high`: the mean of `values` and its 95 % interval over clusters (prompts)."""
    found = clustered_interval(values, clusters, np.ones(len(values)))
    ends = {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    return {key: value for key, value in ends.items() if value is not None and math.isfinite(value)}


def to_numpy(values: Tensor) -> F64:
    """float64 on the CPU."""
    array: F64 = values.detach().to(torch.float64).cpu().numpy()
    return array
