"""The encoder from labelled sets and written examples: out-of-source folds, the final model, its export.

1. Every fold's model never sees the sets of its fold; its answers on them say what unseen sources get, and the context
   model's linear layers learn from those answers, not from what the encoder was trained on.
2. The final model learns from all sets, or is the mean of the folds' models. It is exported to int8 ONNX and runs
   without torch.
Deterministic on one machine for a seed and a thread count; the sum order of other CPUs may move the last digits.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from classifiers.encoder_data import SOME_MENTION, TrainingText, held_frame
from classifiers.encoder_job import EncoderJob, EncoderTraining
from classifiers.encoder_net import EncoderNet, base_folder, export, make_net, make_tokenizer
from classifiers.roles import ROLES
from curation.errors import ConfigError, Problem
from curation.seeding import derive_seed

F32 = npt.NDArray[np.float32]
MASK, CLS, SEP = 103, 101, 102  # of BERT's uncased vocabulary


@dataclass(frozen=True)
class Encoded:
    """Texts as word pieces."""

    ids: list[npt.NDArray[np.int32]]
    mentions: list[list[tuple[int, int, int]]]  # per text: first piece, last piece + 1, role
    labels: F32  # (n, 3)


def encode(texts: Sequence[TrainingText], tokenizer: Tokenizer, max_pieces: int) -> Encoded:
    """Word pieces with [CLS] and [SEP], cut to `max_pieces`; mentions beyond the cut are left out."""
    ids, mentions = [], []
    for text, coded in zip(
        texts, tokenizer.encode_batch([t.text for t in texts], add_special_tokens=False), strict=True
    ):
        ids.append(np.array([CLS, *coded.ids[: max_pieces - 2], SEP], np.int32))
        found = []
        for (start, end), role in zip(text.spans, text.roles, strict=True):
            pieces = [k + 1 for k, (a, b) in enumerate(coded.offsets[: max_pieces - 2]) if a < end and b > start]
            if pieces:
                found.append((pieces[0], pieces[-1] + 1, role))
        mentions.append(found)
    return Encoded(ids, mentions, np.stack([t.labels for t in texts]))


def batches(sizes: Sequence[int], budget: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """All indices once, in random order, in batches of like lengths that fill at most `budget` pieces."""
    order = np.asarray(sizes) + rng.uniform(0, 6, len(sizes))  # jitter: batches differ from epoch to epoch
    ranked = np.argsort(order, kind="stable")
    found, begin = [], 0
    for stop in range(1, len(ranked) + 1):
        full = stop < len(ranked) and (stop + 1 - begin) * sizes[ranked[stop]] > budget
        if full or stop == len(ranked):
            found.append(ranked[begin:stop])
            begin = stop
    return [found[k] for k in rng.permutation(len(found))]


def train(
    net: EncoderNet, coded: Encoded, chosen: npt.NDArray[np.int64], settings: EncoderTraining, seed: int, name: str
) -> None:
    """Fine-tune `net` on the chosen texts, in place, with bf16 autocast."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sizes = [len(coded.ids[k]) for k in chosen]
    rounds = [batches(sizes, settings.batch_pieces, rng) for _ in range(math.ceil(settings.epochs))]
    plan = [part for once in rounds for part in once][: math.ceil(settings.epochs * len(rounds[0]))]
    heads = [p for n, p in net.named_parameters() if not n.startswith("base.")]
    body = [p for n, p in net.named_parameters() if n.startswith("base.")]
    groups = [{"params": body, "lr": settings.learning_rate}, {"params": heads, "lr": settings.head_rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    rise = max(1, int(settings.warmup * len(plan)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / rise, (len(plan) - step) / max(1, len(plan) - rise))
    )
    net.train()
    began, running = time.monotonic(), 0.0
    for step, part in enumerate(plan):
        ids, mask, mentions, labels = _collate(coded, chosen[part], rng, settings)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            text, role = net(ids, mask)
        loss = text_loss(text.float(), labels) + settings.role_weight * role_loss(role.float(), mentions)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        running += (loss.item() - running) * (0.02 if step else 1.0)
        if step % 200 == 0 or step + 1 == len(plan):
            took = time.monotonic() - began
            print(f"{name}: step {step + 1}/{len(plan)} loss {running:.4f} {took:.0f} s", file=sys.stderr, flush=True)


def _collate(
    coded: Encoded, rows: npt.NDArray[np.int64], rng: np.random.Generator, hiding: EncoderTraining | None
) -> tuple[Tensor, Tensor, list[tuple[int, int, int, int]], Tensor]:
    length = max(len(coded.ids[k]) for k in rows)
    ids = np.zeros((len(rows), length), np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    mentions = []
    for at, k in enumerate(rows):
        mine = coded.ids[k]
        ids[at, : len(mine)] = mine
        mask[at, : len(mine)] = 1
        for first, last, role in coded.mentions[k]:
            if hiding and rng.random() < hiding.hide_terms:
                ids[at, first:last] = MASK
            mentions.append((at, first, last, role))
    if hiding:
        ids[(rng.random(ids.shape) < hiding.hide_pieces) & (ids != CLS) & (ids != SEP) & (mask == 1)] = MASK
    return torch.from_numpy(ids), torch.from_numpy(mask), mentions, torch.from_numpy(coded.labels[rows])


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy over the labels that are known, each head's mean, summed."""
    known = ~torch.isnan(labels)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return torch.as_tensor((losses * known).sum(0) / known.sum(0).clamp(min=8)).sum()


def role_loss(role: Tensor, mentions: Sequence[tuple[int, int, int, int]]) -> Tensor:
    """Cross-entropy of the mentions' mean logits; of an unnamed kind of mention, −log(1 − P(use))."""
    if not mentions:
        return role.sum() * 0.0
    logits = torch.stack([role[at, first:last].mean(0) for at, first, last, _ in mentions])
    target = torch.tensor([role for *_, role in mentions])
    log_p = logits.log_softmax(-1)
    named = log_p.gather(1, target.clamp(max=len(ROLES) - 1).unsqueeze(1)).squeeze(1)
    unnamed = log_p[:, 1:].logsumexp(-1)
    return -torch.where(target == SOME_MENTION, unnamed, named).sum() / max(8, len(mentions))


@dataclass(frozen=True)
class Answers:
    """What a net says: per text and per labelled mention."""

    text: F32  # (n, 3) logits
    role: list[F32]  # per text (mentions, 6) logits


def answer(net: EncoderNet, coded: Encoded, rows: Sequence[int]) -> Answers:
    """Logits of the chosen texts, without dropout."""
    net.eval()
    text = np.zeros((len(rows), coded.labels.shape[1]), np.float32)
    role: list[F32] = [np.zeros((0, len(ROLES)), np.float32) for _ in rows]
    rng = np.random.default_rng(0)
    for part in batches([len(coded.ids[k]) for k in rows], 8192, rng):
        ids, mask, mentions, _ = _collate(coded, np.array([rows[k] for k in part]), rng, None)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            a, b = net(ids, mask)
        text[part] = a.float().numpy()
        pieces = b.float().numpy()
        for at, k in enumerate(part):
            mine = [pieces[at, first:last].mean(0) for row, first, last, _ in mentions if row == at]
            if mine:
                role[k] = np.stack(mine)
    return Answers(text, role)


def fit_models(job: EncoderJob, texts: Sequence[TrainingText], only: str | None = None) -> None:
    """Train and export the fold models (`fold0` …) into `job.work` and the final one (`encoder`) into `job.output`.

    `only` names one of them, so that several processes can share the work; a model that is there is not trained again.
    With `final: mean` the shipped one is the folds' mean, and comes last.
    """
    folder = base_folder(job.base)
    tokenizer = make_tokenizer(folder, (t.text for t in texts))
    coded = encode(texts, tokenizer, job.training.max_pieces)
    fold = np.array([t.fold for t in texts])
    learnt = ~np.array([held_frame(t, job.seed) for t in texts])
    plans = {f"fold{k}": np.flatnonzero((fold != k) & learnt) for k in sorted(set(fold[fold >= 0].tolist()))}
    plans["encoder"] = np.flatnonzero(learnt)  # last: it may be the mean of the others
    for name, chosen in plans.items():
        out = Path(job.output if name == "encoder" else job.work)
        if (only is not None and name != only) or (out / f"{name}.files.json").is_file():
            continue
        net = _fresh(job, folder, tokenizer)
        if name == "encoder" and job.training.final == "mean":
            net.load_state_dict(mean_of([Path(job.work) / f"{fold}.safetensors" for fold in plans if fold != name]))
        else:
            settings = job.training
            if name != "encoder":
                settings = settings.model_copy(update={"epochs": settings.fold_epochs})
            train(net, coded, chosen, settings, derive_seed(job.seed, "encoder", name) % 2**31, name)
            if name != "encoder":
                out.mkdir(parents=True, exist_ok=True)
                save_file({k: v.contiguous() for k, v in net.state_dict().items()}, out / f"{name}.safetensors")
        files = export(net, tokenizer, out, name)
        (out / f"{name}.files.json").write_text(json.dumps(files) + "\n", encoding="utf-8")


def _fresh(job: EncoderJob, folder: Path, tokenizer: Tokenizer) -> EncoderNet:
    """The base with fresh heads: the same ones for every model, for models that began apart have no mean."""
    torch.manual_seed(derive_seed(job.seed, "encoder", "heads") % 2**31)
    return make_net(folder, tokenizer, job.positions)


def mean_of(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean, weight by weight, of models that began as one (model soups, Wortsman et al. 2022).

    Raises:
        ConfigError: a file is missing.
    """
    for path in paths:
        if not path.is_file():
            hint = "remove the folds' `.files.json` beside it to train them again"
            raise ConfigError(Problem("no-model", "the weights of a fold are missing", str(path), hint=hint))
    models = [load_file(path) for path in paths]
    return {
        name: torch.stack([model[name] for model in models]).mean(0) if value.is_floating_point() else value
        for name, value in models[0].items()
    }
