"""How far a policy has moved from the model it started from: KL of its own responses, in nats a response.

Rewards are drawn over this distance (Gao 2022, arXiv 2210.10760); harms can be: pairs, steps and seconds say what was
spent, it says how much of the start was given up for it.

    RUN/<arm>/<seed>/<curve>-<dose>/distance.json   what was measured, and of which weights
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from alignment.json_rows import write_text
from alignment.loop import LoopSettings, autocast, device
from alignment.model import load_model, read_json
from alignment.preference_rows import Prompt, plain_prompt
from alignment.reference import by_length, row_sums
from alignment.rollout import SamplingSettings, sample, tempered_logits
from alignment.rows import Example, pad, prompt_ids
from alignment.tokenizer import load_tokenizer, special_ids
from curation.fingerprint import canonical_json, fingerprint
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings

FILE = "distance.json"
PROMPTS_SEED = 13  # the same prompts in every arm, for every seed and dose


class DistanceSettings(Settings):
    """Of which prompts the policy answers, and how long."""

    prompts: int = Field(default=64, ge=2, description="different ones of the curve's rows, drawn by hash")
    response_tokens: int = Field(default=48, ge=1, description="of a response, at most")


@torch.no_grad()
def response_kl(
    policy: Any,
    start: Any,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    ids: dict[str, int],
    seed: int,
) -> torch.Tensor:
    """(prompts,) Σ over the tokens of one sampled response of KL(π(· | context) ‖ π_start(· | context)), in nats.

    Its mean estimates KL(π ‖ π_start) of whole responses without bias: the contexts are drawn from the policy, and at
    each the sum over the vocabulary is exact. So it is never negative and 0 for equal models; log π − log π_start of
    the drawn tokens alone is so only on average.

    Args:
        prompts: token ids of each.
        ids: `pad` and `eos`.
    """
    sampled, response = sample(policy, prompts, settings, ids["pad"], ids["eos"], seed)
    answers, lengths = sampled[:, -response.shape[1] :].tolist(), response.sum(1).tolist()
    examples = [
        Example(tuple(prompt), tuple(answer[:length]))
        for prompt, answer, length in zip(prompts, answers, lengths, strict=True)
    ]
    found = torch.zeros(len(examples))
    for group in by_length([len(example) for example in examples], settings.rows_per_forward):
        batch = pad([examples[row] for row in group], ids["pad"])
        whole, mask, at = (part.to(sampled.device) for part in (batch.ids, batch.mask, batch.response))
        ours, theirs = (
            tempered_logits(model, whole, mask, at, settings.temperature).log_softmax(1) for model in (policy, start)
        )
        found[group] = row_sums((ours.exp() * (ours - theirs)).sum(1), at).float().cpu()
    return found


def distance(
    policy: Path, start: Path, prompts: Sequence[Prompt], settings: DistanceSettings, loop: LoopSettings, seed: int
) -> float | None:
    """Mean `response_kl` over drawn prompts that leave room for a response; None when none does.

    It is measured once and kept in the policy's folder.

    Args:
        policy, start: model directories of finished stages.
        prompts: of which `settings.prompts` different ones are drawn.
        loop: only its precision is used.
    """
    drawn = drawn_prompts(prompts, settings.prompts)
    weights = [read_json(folder / "stage.json")["weights_sha256"] for folder in (policy, start)]
    plain = [plain_prompt(prompt) for prompt in drawn]
    mark = fingerprint({"weights": weights, "prompts": plain, "settings": settings.model_dump(), "seed": seed})
    kept = policy / FILE
    if kept.is_file() and read_json(kept).get("fingerprint") == mark:
        found: float | None = read_json(kept)["nats"]
        return found
    tokenizer, where = load_tokenizer(policy), device()
    ours, theirs = (load_model(folder).to(where).eval() for folder in (policy, start))
    room = int(getattr(ours.config, "max_position_embeddings", 1 << 30)) - settings.response_tokens
    encoded = [ids for prompt in drawn if len(ids := prompt_ids(tokenizer, prompt)) <= room]
    nats = None
    if encoded:
        sampling = SamplingSettings(response_tokens=settings.response_tokens)
        with autocast(loop, where):
            values = response_kl(ours, theirs, encoded, sampling, special_ids(tokenizer), derive_seed(seed, "distance"))
        nats = float(values.double().mean())
    write_text(kept, json.dumps({"fingerprint": mark, "nats": nats, "prompts": len(encoded)}, sort_keys=True) + "\n")
    return nats


def drawn_prompts(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """`count` different prompts, drawn by hash: the same ones whatever their order and number of repeats."""
    different = {canonical_json(plain_prompt(prompt)): prompt for prompt in prompts}
    return [different[key] for key in sorted(different, key=lambda key: (unit_hash(key, PROMPTS_SEED), key))[:count]]
