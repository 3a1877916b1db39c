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
from jinja2 import TemplateError
from torch import Tensor

from curation.errors import ConfigError, Problem, RecordError

Fate = Literal[
    "kept",
    "truncated",
    "skipped_empty_response",
    "skipped_long_prompt",
    "skipped_equal_responses",
    "skipped_unreadable",  # a role or message the template refuses, or text that is no valid unicode
]
TURN = re.compile(r"\n\n(Human|Assistant):[ \n]?")  # Anthropic HH's way to write a dialogue into one string
DIALOGUE = re.compile(r"\s*(Human|Assistant):")  # such a string begins with a speaker
SPEAKER = {"Human": "user", "Assistant": "assistant"}
MARK = re.compile("\ue000(\\d+)\ue001")  # stands for a message's text; private-use characters, which no template has


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
    """A prompt as messages.

    A list is taken as it is. A string that begins with a speaker is an HH dialogue: messages are stripped, and it ends
    where the answer begins. Any other string is one user message, whatever stands in it.

    Raises:
        RecordError: a message is no text with a role, or there is none.
    """
    if not isinstance(prompt, str):
        found = [dict(message) for message in prompt]
    elif DIALOGUE.match(prompt) is None:
        found = [{"role": "user", "content": prompt}]
    else:
        parts = TURN.split("\n\n" + prompt.lstrip())
        pairs = zip(parts[1::2], parts[2::2], strict=True)
        found = [{"role": SPEAKER[who], "content": said.strip()} for who, said in pairs]
        while found and found[-1]["role"] == "assistant" and not found[-1]["content"]:
            found.pop()
    if not found or not all(isinstance(message.get(key), str) for message in found for key in ("role", "content")):
        raise RecordError(Problem("bad-messages", f"not a dialogue: {prompt!r:.80}", None, "messages: role, content"))
    return found


def prompt_ids(tokenizer: Any, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
    """The ids of a prompt up to where the answer begins: those of `tokenizer.apply_chat_template`.

    But what looks like a control token inside a message is encoded as the characters it is: a row must not be able to
    end a turn or to speak as somebody else.

    Raises:
        RecordError: the messages cannot be rendered or encoded.
    """
    messages = turns(prompt)
    control = _control_tokens(tokenizer)
    try:
        if not any(_mentions(message["content"], control) for message in messages):
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return _ids(tokenizer, rendered)
        marked = [{**message, "content": f"\ue000{k}\ue001"} for k, message in enumerate(messages)]
        frame = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError) as error:
        raise RecordError(Problem("bad-messages", f"the chat template refuses them: {error}")) from None
    ids: list[int] = []
    for k, piece in enumerate(MARK.split(frame)):
        if k % 2:
            ids += text_ids(tokenizer, messages[int(piece)]["content"])
        elif piece:
            ids += _ids(tokenizer, piece)
    return ids


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of plain text; nothing in it becomes a control token.

    Raises:
        RecordError: the text is no valid unicode.
    """
    ids = _ids(tokenizer, text, split_special_tokens=True)
    control = _control_tokens(tokenizer)
    if control.keys().isdisjoint(ids):
        return ids
    # Not every tokenizer heeds `split_special_tokens`, and none does for tokens that are added but not called special:
    # then what looks like one is handed over in two halves.
    ids = []
    names = "|".join(re.escape(name) for name in sorted(control.values(), key=len, reverse=True))
    for piece in re.split(f"({names})", text, flags=re.IGNORECASE):
        middle = len(piece) // 2 if re.fullmatch(names, piece, re.IGNORECASE) else len(piece)
        for half in (piece[:middle], piece[middle:]):
            ids += _ids(tokenizer, half, split_special_tokens=True) if half else []
    if not control.keys().isdisjoint(ids):
        name = control[next(one for one in ids if one in control)]
        raise RecordError(Problem("control-token", f"the tokenizer reads `{name}` in a text: {text!r:.80}"))
    return ids


def _ids(tokenizer: Any, text: str, **how: bool) -> list[int]:
    try:
        found: list[int] = tokenizer(text, add_special_tokens=False, verbose=False, **how)["input_ids"]
    except (TypeError, UnicodeEncodeError) as error:  # lone surrogates, which JSON can carry
        raise RecordError(Problem("bad-text", f"cannot be encoded: {error}: {text!r:.80}")) from None
    return found


def _control_tokens(tokenizer: Any) -> dict[int, str]:
    """id → content of the added tokens that are special, or that the chat template writes."""
    template = str(tokenizer.chat_template)
    return {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special or (len(token.content.strip()) > 2 and token.content in template)
    }


def _mentions(text: str, control: Mapping[int, str]) -> bool:
    folded = text.casefold()
    return any(name.casefold() in folded for name in control.values())


def encode(
    tokenizer: Any, prompt: str | Sequence[Mapping[str, str]], response: str, limit: int
) -> tuple[Example | None, Fate]:
    """One row, at most `limit` tokens long: a long response is cut, a prompt that leaves no room is skipped."""
    if not response.strip():
        return None, "skipped_empty_response"
    try:
        begin = prompt_ids(tokenizer, prompt)
        ids = [*text_ids(tokenizer, response.strip()), int(tokenizer.eos_token_id)]
    except RecordError:
        return None, "skipped_unreadable"
    if len(begin) >= limit:
        return None, "skipped_long_prompt"
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
    ids, starts = [], []
    for example in examples:  # lists first: three writes into tensors for every row cost more than a tiny model's step
        padding = [pad_id] * (width - len(example))
        real = [*example.prompt, *example.response]
        ids.append(padding + real if side == "left" else real + padding)
        starts.append(len(padding) if side == "left" else 0)
    at, begin = torch.arange(width), torch.tensor(starts).unsqueeze(1)
    prompt = torch.tensor([len(example.prompt) for example in examples]).unsqueeze(1)
    whole = torch.tensor([len(example) for example in examples]).unsqueeze(1)
    mask = (at >= begin) & (at < begin + whole)
    return Padded(torch.tensor(ids, dtype=torch.int64), mask, mask & (at >= begin + prompt))
