"""Prompt and response rows → token ids, each row's fate recorded; and their padding into batches.

The same rows must reach every arm, so what is kept, truncated or skipped is decided here and counted: a trainer that
drops long rows in silence is a confound.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from curation.errors import ConfigError, Problem

Fate = Literal["kept", "truncated", "skipped_empty_response", "skipped_long_prompt", "skipped_equal_responses"]
TURN = re.compile(r"\n\n(Human|Assistant): ?")  # Anthropic HH's way to write a dialogue into one string
SPEAKER = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Example:
    """One prompt with one response, as ids; the response ends with the end-of-text id unless it was truncated."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def check_tokenizer(tokenizer: Any, where: str) -> None:
    """Refuse what no stage can learn from.

    Raises:
        ConfigError: no chat template, no end-of-text id, or padding that is the end of text: then the end is masked
            like padding and never learnt.
    """
    problems = []
    if tokenizer.eos_token_id is None:
        problems.append(Problem("no-eos", "the tokenizer has no end-of-text token", where))
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        hint = "add a token for padding: the end of text would be masked with it and never learnt"
        problems.append(
            Problem(
                "pad-is-eos", f"padding is {tokenizer.pad_token!r}", where, "an id that is not the end of text", hint
            )
        )
    if not tokenizer.chat_template:
        problems.append(Problem("no-chat-template", "the tokenizer has no chat template", where))
    if problems:
        raise ConfigError(*problems)


def turns(prompt: str | Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A prompt as messages: a list as it is, an HH dialogue by its speakers, any other text as one user message."""
    if not isinstance(prompt, str):
        return [dict(message) for message in prompt]
    parts = TURN.split(prompt if prompt.startswith("\n\n") else "\n\nHuman: " + prompt)
    found = [
        {"role": SPEAKER[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    while found and found[-1]["role"] == "assistant" and not found[-1]["content"]:
        found.pop()  # the dialogue ends where the answer begins
    return found


def prompt_ids(tokenizer: Any, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
    """The ids of a prompt up to where the answer begins.

    What looks like a special token inside a message is encoded as the characters it is: a row must not be able to end
    a turn or to speak as somebody else.
    """
    messages = turns(prompt)
    marked = [{**message, "content": f"\ue000{k}\ue001"} for k, message in enumerate(messages)]
    frame = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    ids: list[int] = []
    for k, piece in enumerate(re.split("\ue000(\\d+)\ue001", frame)):
        if k % 2:
            ids += text_ids(tokenizer, messages[int(piece)]["content"])
        elif piece:
            ids += tokenizer(piece, add_special_tokens=False)["input_ids"]
    return ids


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of plain text; nothing in it becomes a special token."""
    found: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return found


def encode(
    tokenizer: Any, prompt: str | Sequence[Mapping[str, str]], response: str, limit: int
) -> tuple[Example | None, Fate]:
    """One row, at most `limit` tokens long: a long response is cut, a prompt that leaves no room is skipped."""
    if not response.strip():
        return None, "skipped_empty_response"
    begin = prompt_ids(tokenizer, prompt)
    if len(begin) >= limit:
        return None, "skipped_long_prompt"
    ids = [*text_ids(tokenizer, response.strip()), int(tokenizer.eos_token_id)]
    room = limit - len(begin)
    return Example(tuple(begin), tuple(ids[:room])), "kept" if len(ids) <= room else "truncated"


def encode_responses(
    tokenizer: Any, prompt: str | Sequence[Mapping[str, str]], responses: Sequence[str], limit: int
) -> tuple[list[Example] | None, Fate]:
    """All responses to one prompt, or None: one that cannot be encoded takes the row with it, and so do equal ones."""
    found, fates = [], []
    for response in responses:
        example, fate = encode(tokenizer, prompt, response, limit)
        if example is None:
            return None, fate
        found.append(example)
        fates.append(fate)
    if len({example.response for example in found}) < 2:
        return None, "skipped_equal_responses"
    return found, "truncated" if "truncated" in fates else "kept"


def counted(fates: Sequence[Fate]) -> dict[str, int]:
    """How many rows met which fate."""
    return dict(sorted(Counter(fates).items()))


@dataclass(frozen=True)
class Padded:
    """Examples as rectangles: all (rows, tokens)."""

    ids: Tensor  # int64
    mask: Tensor  # bool: a real token
    response: Tensor  # bool: a token of the response, its end included


def pad(
    examples: Sequence[Example], pad_id: int, side: Literal["left", "right"] = "right", multiple: int = 1
) -> Padded:
    """Prompts with their responses, padded to the longest, rounded up to `multiple`."""
    longest = max(len(example) for example in examples)
    width = -(-longest // multiple) * multiple
    ids = torch.full((len(examples), width), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(examples), width), dtype=torch.bool)
    response = torch.zeros_like(mask)
    for row, example in enumerate(examples):
        start = width - len(example) if side == "left" else 0
        middle, end = start + len(example.prompt), start + len(example)
        ids[row, start:end] = torch.tensor([*example.prompt, *example.response])
        mask[row, start:end] = True
        response[row, middle:end] = True
    return Padded(ids, mask, response)
