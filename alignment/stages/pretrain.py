"""Token folder → a language model trained from scratch, the way every arm is.

Which rows a step reads depends on the seed and the number of rows alone. Arms laid out in lockstep therefore see
corresponding documents at the same step, and two arms with the same corpus end with the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from alignment.attention import fastest_attention
from alignment.linear_cross_entropy import linear_cross_entropy
from alignment.loop import LoopSettings, Micro, StageSettings, autocast, device, train
from alignment.model import Size, load_model, named_size, new_model, save_model, weights_sha256
from alignment.stage import StageResult, finish_stage, finished_stage
from alignment.tokenizer import load_tokenizer, tokenizer_sha256
from alignment.tokens import I64, Ids, TokenFolder
from curation.errors import ConfigError, DataContractError, Problem
from curation.fingerprint import fingerprint
from curation.seeding import derive_seed

EVALUATION_ROWS = 16  # rows through the model at once where no gradient is kept


class PretrainSettings(StageSettings):
    """How a model is trained from scratch. The context is the token folder's."""

    size: str = "3m"
    tokens: int | None = Field(default=None, ge=1)  # to train on; None: every row of the folder once
    # Small batches while models are small: the loss of a 3M model is far from where larger ones begin to save steps
    # (McCandlish 2018, arXiv 1812.06162). GPT-3 trains its 125M model with half a million.
    batch_tokens: int = Field(default=8192, ge=1)  # a step
    micro_rows: int = Field(default=8, ge=1)  # rows through the model at once; changes memory and speed, not the step
    # Up to four readings of the same tokens are worth nearly as much as new ones (Muennighoff 2023, arXiv 2305.16264).
    max_epochs: float = Field(default=4.0, gt=0)
    loop: LoopSettings = LoopSettings(
        learning_rate=1e-3,  # nanoGPT's for small models; GPT-3 (table 2.1): 6e-4 at 125M, 3e-4 at 350M
        schedule="cosine",
        warmup=0.01,  # Korbak 2023 (arXiv 2302.08582), 124M
        final=0.1,  # Hoffmann 2022 (arXiv 2203.15556), App. B: over the very steps of the run, to a tenth
    )


class PretrainObjective:
    """Next-token cross-entropy over rows of a token folder, each epoch in a permutation of its own."""

    def __init__(self, tokens: TokenFolder, steps: int, step_rows: int, micro_rows: int, seed: int) -> None:
        self.tokens, self.seed = tokens, seed
        self.steps, self.step_rows, self.micro_rows = steps, step_rows, micro_rows
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> I64:
        generator = np.random.default_rng(derive_seed(self.seed, "pretrain", "order", str(epoch)))
        return generator.permutation(len(self.tokens.starts))

    def rows(self, step: int) -> I64:
        """(step_rows,) the numbers of the rows that step `step` reads."""
        places = np.arange(step * self.step_rows, (step + 1) * self.step_rows)
        epochs, within = np.divmod(places, len(self.tokens.starts))
        found = [self._order(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(found).astype(np.int64)

    def batch(self, step: int) -> list[Micro]:
        """The step's rows, `micro_rows` at a time."""
        rows = self.rows(step)
        found = []
        for begin in range(0, len(rows), self.micro_rows):
            ids = read_rows(self.tokens.ids, self.tokens.starts[rows[begin : begin + self.micro_rows]], self.width)
            count = ids.shape[0] * self.tokens.context
            found.append(Micro({"ids": ids}, units=count, tokens=count))
        return found

    @property
    def width(self) -> int:
        """Ids of a row: the context and the token after it."""
        return self.tokens.context + 1

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The negative log-likelihood in nats, summed over tokens."""
        return negative_log_likelihood(model, micro.tensors["ids"]), {}


def read_rows(ids: Ids, starts: I64, width: int) -> Tensor:
    """(rows, width) int64: the ids from each start on."""
    places = starts[:, None] + np.arange(width)
    return torch.from_numpy(np.asarray(ids[places]).astype(np.int64))


def negative_log_likelihood(model: Any, ids: Tensor) -> Tensor:
    """−Σ log p(token | those before it in its row) in nats over all but the first token of each row of `ids`."""
    hidden = model.get_decoder()(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return linear_cross_entropy(hidden.flatten(0, 1), model.get_output_embeddings().weight, ids[:, 1:].flatten())


@torch.no_grad()
def validation_loss(model: Any, tokens: TokenFolder, settings: LoopSettings) -> float | None:
    """Mean negative log-likelihood in nats a token over the held-out rows; None when none were held out.

    Every token but the first is predicted once, from at most `context` before it.
    """
    starts = tokens.validation_starts
    if not len(starts):
        return None
    where = device()
    model.to(where).eval()
    total = 0.0
    for begin in range(0, len(starts), EVALUATION_ROWS):
        ids = read_rows(tokens.validation, starts[begin : begin + EVALUATION_ROWS], tokens.context + 1).to(where)
        with autocast(settings, where):
            total += float(negative_log_likelihood(model, ids))
    return total / (len(starts) * tokens.context)


def steps_of(settings: PretrainSettings, tokens: TokenFolder) -> tuple[int, int]:
    """Steps of the run and rows of a step.

    Raises:
        ConfigError: a step is no whole number of rows, or the budget is less than a step or too many epochs.
    """
    context, where = tokens.context, "pretrain"
    available = len(tokens.starts) * context
    if settings.batch_tokens % context:
        near = max(1, round(settings.batch_tokens / context)) * context
        message = f"{settings.batch_tokens:,} tokens a step are no whole number of rows of {context}"
        raise ConfigError(
            Problem("bad-batch", message, f"{where}.batch_tokens", f"a multiple of {context}", f"use {near}")
        )
    budget = available if settings.tokens is None else settings.tokens
    if budget < settings.batch_tokens:
        message = f"{budget:,} training tokens are less than one step"
        raise ConfigError(
            Problem("small-budget", message, f"{where}.tokens", f"at least batch_tokens, {settings.batch_tokens:,}")
        )
    if budget > settings.max_epochs * available:
        message = f"{budget:,} tokens are {budget / available:.1f} times the {available:,} of {tokens.path}"
        hint = "a larger corpus, fewer tokens, or a larger max_epochs"
        raise ConfigError(
            Problem("too-many-epochs", message, f"{where}.tokens", f"at most max_epochs, {settings.max_epochs:g}", hint)
        )
    return budget // settings.batch_tokens, settings.batch_tokens // context


def pretrain(
    settings: PretrainSettings,
    tokens: str | Path,
    folder: Path,
    seed: int,
    tokenizer: str | Path | None = None,
    start: str | Path | None = None,
    **labels: Any,
) -> StageResult:
    """Train a model on the tokens of one arm, from scratch or from where another run left it.

    Args:
        tokens: a token folder (`alignment/tokens.py`).
        folder: gets the model directory with its tokenizer, `metrics.jsonl` and `stage.json`.
        seed: of the initial weights and of the order of the rows.
        tokenizer: what made the tokens, a Hugging Face directory; None: `tokenizer/` beside the token folder.
        start: a model to go on from (continued pretraining), `settings.size` then says nothing; None: new weights.
        labels: `arm`.

    Returns:
        The result. Its metrics have `loss`, that of the last step, and where documents were held out
        `validation_loss`, both in nats a token; `epochs`, how often the folder's tokens were read. Its rows: `kept`
        were trained on, `unused` are beyond the budget.

    Raises:
        ConfigError: a setting, token folder or tokenizer that cannot be used; nothing was trained.
        DataContractError: a file is damaged.
        StageError: training could not go on.
    """
    size = named_size(settings.size)
    data = TokenFolder.open(tokens)
    steps, step_rows = steps_of(settings, data)
    found = load_tokenizer(_tokenizer_of(data, tokenizer))
    _check_tokenizer(data, found)
    begun = None if start is None else _begun(start, data)
    made_of = {
        "stage": "pretrain",
        "settings": settings.model_dump(),
        "tokens": data.sha256,
        "tokenizer": tokenizer_sha256(found),
        "seed": seed,
        **({} if begun is None else {"start": weights_sha256(begun)}),
    }
    mark = fingerprint(made_of)
    done = finished_stage(folder, mark)
    if done is not None:
        return done
    model = _fresh(size, data, seed) if begun is None else begun
    objective = PretrainObjective(data, steps, step_rows, settings.micro_rows, seed)
    with fastest_attention(model, settings.loop, data.context):
        progress = train(model, objective, settings.loop, folder, seed)
    metrics = {"loss": progress.means["loss"], "epochs": round(steps * step_rows / len(data.starts), 4)}
    held_out = validation_loss(model, data, settings.loop)
    if held_out is not None:
        metrics["validation_loss"] = held_out
    model.cpu()
    save_model(model, found, folder)
    used = min(len(data.starts), steps * step_rows)
    fates = {"kept": used, "unused": len(data.starts) - used}
    return finish_stage(folder, "pretrain", mark, weights_sha256(model), progress, metrics, fates, seed=seed, **labels)


def _fresh(size: Size, data: TokenFolder, seed: int) -> Any:
    ids = {"pad": data.pad, "bos": data.bos, "eos": data.eos}
    return new_model(size, data.vocabulary, ids, derive_seed(seed, "pretrain", "weights"), data.context)


def _begun(start: str | Path, data: TokenFolder) -> Any:
    """The model to go on from.

    Raises:
        ConfigError: there is none, or its vocabulary or context is smaller than that of the tokens.
    """
    model = load_model(start)
    for what, here, there in (
        ("vocabulary", int(model.config.vocab_size), data.vocabulary),
        ("context", int(model.config.max_position_embeddings), data.context),
    ):
        if here < there:
            message = f"its {what} is {here:,}, that of the tokens {there:,}"
            raise ConfigError(Problem("small-model", message, str(start), "a model whose tokenizer made the tokens"))
    return model


def _check_tokenizer(tokens: TokenFolder, tokenizer: Any) -> None:
    sha256 = tokenizer_sha256(tokenizer)
    if tokens.facts.get("tokenizer_sha256", sha256) != sha256:
        said = "the tokens were made by another tokenizer"
        raise DataContractError(Problem("other-tokenizer", said, str(tokens.path), sha256))


def _tokenizer_of(tokens: TokenFolder, given: str | Path | None) -> Path | str:
    if given is not None:
        return given
    beside = tokens.path.parent / "tokenizer"
    if not beside.is_dir():
        raise ConfigError(
            Problem("no-tokenizer", "no tokenizer beside the token folder", str(beside), hint="name one: `tokenizer`")
        )
    return beside
