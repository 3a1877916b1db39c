"""Supervised fine-tuning: prompts with the answers to imitate; the loss is on the answers alone, their end included.

sft(SftSettings(), Path("runs/pretrain"), Path("demonstrations.jsonl.zst"), Path("runs/sft"), seed=0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from alignment.direct import all_fates, is_held_out, need_rows, prompt_key, steps, without_dropout
from alignment.linear_cross_entropy import linear_cross_entropy
from alignment.loop import LoopSettings, Micro, StageSettings, device, train
from alignment.lora import LoraSettings, merged, save_adapter, with_lora
from alignment.losses import taken_log_probs
from alignment.model import load_model, save_model, weights_sha256
from alignment.packing import bins, pack
from alignment.preference_rows import DemonstrationRow, rows_sha256
from alignment.preferences import read_demonstrations
from alignment.reference import by_length, example_log_probs, response_logits
from alignment.rollout import SamplingSettings, sample
from alignment.rows import Example, check_tokenizer, encode, pad
from alignment.stage import StageResult, finish_stage, finished_stage
from alignment.tokenizer import load_tokenizer, tokenizer_sha256
from curation.fingerprint import fingerprint
from curation.seeding import derive_seed

# Models whose logits are the last hidden state times the head's weight and nothing more: no scale, cap or bias.
PLAIN_HEADS = frozenset(f"{name}ForCausalLM" for name in ("Llama", "Mistral", "Qwen2", "Qwen3", "Olmo2", "GPTNeoX")) | {
    "GPT2LMHeadModel"
}


class SftSettings(StageSettings):
    """Defaults: Stanford Alpaca's published recipe for a pretrained 7B model (its README, "Fine-tuning").

    Models of a million weights want a learning rate of about 1e-3 (docs/results/alignment.md).
    """

    loop: LoopSettings = LoopSettings(
        learning_rate=2e-5, schedule="cosine", warmup=0.03, final=0.0, beta2=0.999, weight_decay=0.0
    )
    epochs: int = Field(default=3, ge=1)
    batch: int = Field(default=128, ge=1)  # rows a step
    micro: int = Field(default=8, ge=1)  # rows through the model at once; changes memory and speed, not the step
    length: int | None = Field(default=None, ge=8)  # tokens of prompt and response; None: the model's context
    packing: bool = False  # several rows in one of `length` tokens; worth it where rows of a step differ much in length
    held_out: float = Field(default=0.05, ge=0, lt=1)  # share of the prompts
    response_tokens: int = Field(default=128, ge=1)  # within which a sampled answer has to end
    prompts: int = Field(default=200, ge=0)  # held-out prompts at most that are answered; 200: ±3 % at a rate of 0.95
    lora: LoraSettings | None = None


class SftObjective:
    """The rows of every step and what they lose."""

    def __init__(self, settings: SftSettings, examples: Sequence[Example], pad_id: int, limit: int, seed: int) -> None:
        self.settings = settings
        self.examples = examples
        self.pad_id = pad_id
        self.limit = limit
        self.order = steps(len(examples), settings.batch, settings.epochs, seed, "sft")
        self.steps = len(self.order)

    def batch(self, step: int) -> list[Micro]:
        """The step's rows, those of like length together, or packed."""
        rows = [self.examples[row] for row in self.order[step].tolist()]
        lengths = [len(row) for row in rows]
        if not self.settings.packing:
            return [self._padded([rows[i] for i in group]) for group in by_length(lengths, self.settings.micro)]
        packed = [[rows[i] for i in sorted(row)] for row in bins(lengths, self.limit)]
        # As many tokens at once as without packing, on average.
        at_once = max(1, self.settings.micro * sum(lengths) // len(lengths) // self.limit)
        return [self._packed(packed[i : i + at_once]) for i in range(0, len(packed), at_once)]

    def _padded(self, rows: Sequence[Example]) -> Micro:
        batch = pad(rows, self.pad_id)
        tensors = {"ids": batch.ids, "mask": batch.mask, "response": batch.response}
        return Micro(tensors, int(batch.response[:, 1:].sum()), int(batch.mask.sum()))

    def _packed(self, rows: Sequence[Sequence[Example]]) -> Micro:
        batch = pack(rows, self.pad_id)
        tensors = {"ids": batch.ids, "mask": batch.mask, "positions": batch.positions, "response": batch.response}
        return Micro(tensors, int(batch.response[:, 1:].sum()), batch.tokens)

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, Mapping[str, Tensor]]:
        """−log-likelihood in nats, summed over the response tokens of the micro-batch."""
        t = micro.tensors
        return response_loss(model, t["ids"], t["mask"], t["response"], t.get("positions")), {}


def response_loss(model: Any, ids: Tensor, mask: Tensor, response: Tensor, positions: Tensor | None = None) -> Tensor:
    """−Σ log π(token | what stands before it) over the tokens that `response` marks; a scalar, in fp32.

    Only positions that predict such a token go through the language-model head.

    Args:
        ids: (rows, tokens) int64.
        mask: (rows, tokens) bool, or of packed rows (rows, 1, tokens, tokens) bool.
        response: (rows, tokens) bool. A row's first token is predicted by nothing and does not count.
        positions: (rows, tokens) of packed rows; None: rows are not packed.
    """
    targets = ids[:, 1:][response[:, 1:]]
    head = model.get_output_embeddings()
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    plain = type(bare).__name__ in PLAIN_HEADS and type(head) is torch.nn.Linear and head.bias is None
    if positions is None and (not plain or not bool(mask[:, 0].all())):
        return -taken_log_probs(response_logits(model, ids, mask, _but_first(response)), targets).sum()
    # Padding on the right lies behind every real token, so the causal mask hides it: no mask, the fast kernel.
    how = {} if positions is None else {"attention_mask": mask, "position_ids": positions}
    if not plain:
        logits = model(input_ids=ids, use_cache=False, **how).logits[:, :-1][response[:, 1:]]
        return -taken_log_probs(logits, targets).sum()
    hidden = model.get_decoder()(input_ids=ids, use_cache=False, **how).last_hidden_state
    return linear_cross_entropy(hidden[:, :-1][response[:, 1:]], head.weight, targets)


def _but_first(response: Tensor) -> Tensor:
    found = response.clone()
    found[:, 0] = False
    return found


def sft(
    settings: SftSettings,
    policy: str | Path,
    rows: Sequence[DemonstrationRow] | Path,
    folder: Path,
    seed: int,
    **labels: Any,
) -> StageResult:
    """Train `policy` to give the answers of `rows`.

    Args:
        policy: a Hugging Face model directory or hub name; its tokenizer is used and written along.
        rows: demonstrations, or a file of them.
        folder: gets the model, `metrics.jsonl` and `stage.json`.
        labels: `arm`.

    Returns:
        The result. Of held-out prompts its metrics have `loss_before` and `loss_after` in nats a response token, and
        `eos_rate_before` and `eos_rate_after`: the share of answers, sampled at temperature 1, that end within
        `response_tokens`; `answer_tokens` is their mean length, `prompts` their number.

    Raises:
        ConfigError: a setting, model or tokenizer that cannot be used; nothing was trained.
        DataContractError: no row is left, or no checkpoint can be read.
        StageError: training could not go on.
    """
    demonstrations = read_demonstrations(rows) if isinstance(rows, Path) else rows
    tokenizer = load_tokenizer(policy)
    check_tokenizer(tokenizer, str(policy))
    model = load_model(policy)
    without_dropout(model)
    made_of = {
        "stage": "sft",
        "settings": settings.model_dump(),
        "policy": weights_sha256(model),
        "tokenizer": tokenizer_sha256(tokenizer),
        "rows": rows_sha256(demonstrations),
        "seed": seed,
    }
    mark = fingerprint(made_of)
    done = finished_stage(folder, mark)
    if done is not None:
        return done
    context = int(getattr(model.config, "max_position_embeddings", 0) or settings.length or 1024)
    limit = min(context, settings.length or context)
    examples, held, fates = _encoded(tokenizer, demonstrations, limit, settings.held_out)
    pad_id, eos_id = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
    before = held_out_metrics(model, held, settings, context, (pad_id, eos_id), seed)
    model = with_lora(model, settings.lora, derive_seed(seed, "sft", "lora") & 0xFFFFFFFF)
    progress = train(model, SftObjective(settings, examples, pad_id, limit, seed), settings.loop, folder, seed)
    after = held_out_metrics(model, held, settings, context, (pad_id, eos_id), seed)
    save_adapter(model, folder)
    model = merged(model).cpu()
    save_model(model, tokenizer, folder)
    metrics = {"rows": float(len(examples)), "held_out": float(len(held))}
    metrics |= {f"{name}_{when}": found[name] for name in ("loss", "eos_rate") for when, found in
                (("before", before), ("after", after)) if name in found}  # fmt: skip
    metrics |= {name: after[name] for name in ("answer_tokens", "prompts") if name in after}
    return finish_stage(folder, "sft", mark, weights_sha256(model), progress, metrics, fates, seed=seed, **labels)


def held_out_metrics(
    model: Any, held: Sequence[Example], settings: SftSettings, context: int, ids: tuple[int, int], seed: int
) -> dict[str, float]:
    """`loss`, `eos_rate`, `answer_tokens` and `prompts` of held-out rows; empty when there are none.

    Prompts that leave no room for an answer in the context are not asked.

    Args:
        context: tokens the model can hold.
        ids: pad, eos.
    """
    if not held:
        return {}
    pad_id, eos_id = ids
    model.to(device()).eval()
    log_probs = example_log_probs(model, held, pad_id, settings.loop)
    found = {"loss": -float(log_probs.double().sum()) / sum(len(example.response) for example in held)}
    room = context - settings.response_tokens
    prompts = [example.prompt for example in held if len(example.prompt) <= room][: settings.prompts]
    if prompts:
        sampling = SamplingSettings(response_tokens=settings.response_tokens)
        ended, tokens = 0, 0
        groups = by_length([len(prompt) for prompt in prompts], sampling.rows_per_forward)
        for number, group in enumerate(groups):
            draw = derive_seed(seed, "sft", "answers", str(number)) & 0xFFFFFFFF
            drawn, response = sample(model, [prompts[i] for i in group], sampling, pad_id, eos_id, draw)
            answers = drawn[:, -response.shape[1] :]
            ended += int(((answers == eos_id) & response).any(1).sum())
            tokens += int(response.sum())
        found |= {
            "eos_rate": ended / len(prompts),
            "answer_tokens": tokens / len(prompts),
            "prompts": float(len(prompts)),
        }
    return found


def _encoded(
    tokenizer: Any, rows: Sequence[DemonstrationRow], limit: int, share: float
) -> tuple[list[Example], list[Example], dict[str, int]]:
    """Rows to train on, rows held out, and every row's fate."""
    examples: list[Example] = []
    held: list[Example] = []
    fates: list[str] = []
    for row in rows:
        example, fate = encode(tokenizer, row.prompt, row.response, limit)
        fates.append(fate)
        if example is not None:
            (held if is_held_out(prompt_key(row.prompt), share) else examples).append(example)
    counted = all_fates(getattr(rows, "fates", {}), fates)
    need_rows(len(examples), 1, counted, "sft")
    return examples, held, counted
