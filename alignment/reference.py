"""Log-probabilities of responses, and those of the reference model: computed once, kept in a file, never in memory.

DPO and KTO compare the policy with a model that does not change. So its log-probabilities are computed before training
and lie beside the stage with the sha256 of what they depend on; while the policy trains there is one model in memory.

Only the positions that predict a response token go through the language-model head. In small models the head costs as
much as the layers, and prompts and padding are most positions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from alignment.loop import LoopSettings, autocast, device
from alignment.losses import taken_log_probs
from alignment.model import positions
from alignment.rows import Example, Padded, pad
from curation.errors import DataContractError, Problem, StageError
from curation.fingerprint import canonical_json

SCORING_TOKENS = 4096  # padded tokens in one forward pass without gradients


def response_logits(model: Any, ids: Tensor, mask: Tensor, response: Tensor) -> Tensor:
    """(marked, vocabulary) logits of the tokens marked in `response`, row by row; nothing else goes through the head.

    A row's first token is predicted by nothing and may not be marked.

    Args:
        model: a causal language model as Hugging Face has them.
        ids: (rows, tokens) int64.
        mask: (rows, tokens) bool, False on padding, on either side.
        response: (rows, tokens) bool.
    """
    predicts = torch.nn.functional.pad(response[:, 1:], (0, 1)).flatten().nonzero().squeeze(1)
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None or hasattr(model, "_orig_mod"):  # a compiled model does not see new hooks
        logits = _forward(model, ids, mask)
        return torch.as_tensor(logits.flatten(0, 1).index_select(0, predicts))

    # A hook on the head, not a call of it: the model's own code still scales or caps the logits as it likes.
    def choose(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].flatten(0, 1).index_select(0, predicts), *args[1:])

    hook = head.register_forward_pre_hook(choose)
    try:
        return _forward(model, ids, mask)
    finally:
        hook.remove()


def _forward(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    if bool(mask[:, 0].all()):
        # Padding on the right lies behind every real token, so the causal mask hides it: no mask, the fast kernel.
        return torch.as_tensor(model(input_ids=ids, use_cache=False).logits)
    called = model(input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False)
    return torch.as_tensor(called.logits)


def response_log_probs(model: Any, ids: Tensor, mask: Tensor, response: Tensor) -> Tensor:
    """(rows,) summed log-probability of each row's tokens that `response` marks. Shapes as in `response_logits`."""
    return row_sums(taken_log_probs(response_logits(model, ids, mask, response), ids[response]), response)


def row_sums(values: Tensor, marked: Tensor) -> Tensor:
    """(rows,) sums of one number for each place that `marked` (rows, tokens) marks, row by row."""
    places = marked.flatten().nonzero().squeeze(1)
    # Not index_add over rows: on a GPU its order of adding, and so its last digit, changes from run to run.
    return values.new_zeros(marked.numel()).index_copy(0, places, values).view(marked.shape).sum(1)


def by_length(lengths: Sequence[int], rows: int) -> list[list[int]]:
    """Indices in groups of at most `rows`, short ones together, so that little padding is computed."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    return [order[i : i + rows] for i in range(0, len(order), rows)]


def over_examples(
    model: Any, examples: Sequence[Example], pad_id: int, settings: LoopSettings, score: Callable[[Any, Padded], Tensor]
) -> Tensor:
    """(examples,) on the CPU: `score` of every example, without gradients, in the order given.

    Args:
        score: (model, batch) → one number a row.
    """
    found = torch.zeros(len(examples))
    longest = max((len(example) for example in examples), default=1)
    where = device()
    model.to(where).eval()
    with torch.no_grad():
        for group in by_length([len(example) for example in examples], max(1, SCORING_TOKENS // longest)):
            batch = pad([examples[i] for i in group], pad_id)
            moved = Padded(batch.ids.to(where), batch.mask.to(where), batch.response.to(where))
            with autocast(settings, where):
                found[group] = score(model, moved).float().cpu()
    return found


def example_log_probs(model: Any, examples: Sequence[Example], pad_id: int, settings: LoopSettings) -> Tensor:
    """(examples,) log π(response | prompt) of every example, fp32 on the CPU."""

    def score(model: Any, batch: Padded) -> Tensor:
        return response_log_probs(model, batch.ids, batch.mask, batch.response)

    return over_examples(model, examples, pad_id, settings, score)


def examples_sha256(examples: Sequence[Example]) -> str:
    """sha256 over the ids of every prompt and response, in order."""
    digest = hashlib.sha256()
    for example in examples:
        lengths = np.array([len(example.prompt), len(example.response)], np.int64)
        digest.update(lengths.tobytes() + np.array([*example.prompt, *example.response], np.int64).tobytes())
    return digest.hexdigest()


def kept_log_probs(file: Path, of: dict[str, str], path: str, compute: Callable[[], Tensor]) -> Tensor:
    """What `compute` returns, or what it returned when it was last asked under the same circumstances.

    Args:
        file: safetensors; written under a temporary name and renamed.
        of: all that the numbers depend on, by name: sha256 of the weights, of the examples.
        path: where the model was; kept for the reader, it may have moved.

    Raises:
        DataContractError: the file is damaged, or was made of something else.
        StageError: the file cannot be written.
    """
    if file.is_file():
        return _read(file, of)
    found = compute().contiguous()
    temporary = file.with_suffix(f".{os.getpid()}.tmp")  # several processes may write the same numbers
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # One key: safetensors writes several in any order, and the same numbers should be the same bytes.
        made_of = canonical_json({**of, "path": path, "sha256": _sha256(found)})
        save_file({"log_probs": found}, temporary, metadata={"made_of": made_of})
        os.replace(temporary, file)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise StageError(Problem("reference-not-written", f"cannot write: {error}", str(file))) from None
    return found


def _read(file: Path, of: dict[str, str]) -> Tensor:
    hint = "delete it: it is computed again"
    try:
        with safe_open(str(file), framework="pt") as stream:
            made_of: dict[str, str] = json.loads((stream.metadata() or {}).get("made_of", "{}"))
            found: Tensor = stream.get_tensor("log_probs")
    except (OSError, ValueError, SafetensorError) as error:
        raise DataContractError(
            Problem("corrupt-reference", f"cannot be read: {error}", str(file), hint=hint)
        ) from None
    if made_of.get("sha256") != _sha256(found):
        raise DataContractError(Problem("corrupt-reference", "the sha256 differs", str(file), hint=hint))
    stale = [
        Problem("stale-reference", f"`{name}` was {made_of.get(name)!r}", str(file), repr(value), hint)
        for name, value in of.items()
        if made_of.get(name) != value
    ]
    if stale:
        raise DataContractError(*stale)
    return found


def _sha256(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()
