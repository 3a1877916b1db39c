"""A trained model as metrics see it: log-likelihoods of continuations, bits of documents, sampled continuations.

Tokenisation of (context, continuation) follows lm-evaluation-harness, so that the numbers can be checked against it:
spaces at the end of the context belong to the continuation, and the two are encoded as one text. Batches are formed by
length alone, never by arrival, and every row is scored on its own, so a batch size changes nothing beyond rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from alignment.generations import Generation
from alignment.metrics.decoding import continuations
from alignment.model import load_model, positions
from alignment.rows import prompt_ids
from alignment.tagged import tag_ids
from curation.errors import ConfigError, DataContractError, Problem
from curation.seeding import derive_seed, unit_hash

PREFIXES = 11  # seed of the draw of a prompt's prefix
BATCH_TOKENS = 4096  # logits of 50k words in fp32 take 0.8 GB
DRAWN_TOKENS = 16_384  # of continuations drawn together: some 400 short ones, whose logits take 80 MB with 50k words


@dataclass(frozen=True)
class Likelihood:
    """What a model says of one continuation."""

    nats: float  # log-probability, ≤ 0, summed over its tokens
    tokens: int
    bytes: int  # UTF-8 bytes of the continuation as given
    greedy: bool  # whether each of its tokens was the likeliest


@dataclass(frozen=True)
class Sampling:
    """How continuations are drawn. Defaults: RealToxicityPrompts (Gehman 2020 §4): nucleus .9, ≤ 20 new tokens."""

    new_tokens: int = 20
    temperature: float = 1.0
    top_p: float = 0.9


class LanguageModel:
    """A causal model with its tokenizer, in evaluation mode and without gradients."""

    def __init__(self, model: Any, tokenizer: Any, bos: bool = True) -> None:
        """`bos`: put the begin-of-text token before every text, as in training; without it, nothing is put there."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.context = int(model.config.max_position_embeddings)
        self.where = next(model.parameters()).device
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise ConfigError(Problem("no-bos", "the tokenizer has neither a begin- nor an end-of-text token"))
        self.start = int(start)
        self.bos = bos
        self.generations: list[Generation] = []  # what metrics let it write, to be looked at
        self.judges: dict[str, dict[str, object]] = {}  # who judged that
        self.prefixes: tuple[str, ...] = ()  # of which one stands before every prompt that is continued or answered
        self.never = tag_ids(tokenizer)  # ids that are not sampled: the tags of conditional training

    @classmethod
    def load(cls, folder: str | Path, bos: bool = True) -> LanguageModel:
        """From a Hugging Face directory or hub name.

        Raises:
            ConfigError: there is no model or no tokenizer.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
        except (OSError, ValueError) as error:
            raise ConfigError(Problem("no-tokenizer", str(error).splitlines()[0], str(folder))) from None
        return cls(load_model(folder), tokenizer, bos)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context (with what is put before every text) and of the continuation after it."""
        spaces = len(context) - len(context.rstrip())
        if spaces:
            continuation, context = context[-spaces:] + continuation, context[:-spaces]
        before = [self.start] if self.bos or not context else []
        if not context:
            return before, self.ids(continuation)
        whole, head = self.ids(context + continuation), self.ids(context)
        return before + head, whole[len(head) :]

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Log-likelihood of each continuation given its context; a context too long loses its beginning.

        Raises:
            ConfigError: a continuation is empty or longer than the model's context.
            DataContractError: the model's answer is not finite.
        """
        encoded = [self.encode_pair(context, continuation) for context, continuation in pairs]
        for (_, tail), (_, continuation) in zip(encoded, pairs, strict=True):
            if not 0 < len(tail) <= self.context:
                what = f"{len(tail)} tokens: {continuation[:60]!r}"
                raise ConfigError(Problem("bad-continuation", what, None, f"1 to {self.context} tokens"))
        rows = [((head + tail)[-(self.context + 1) :], len(tail)) for head, tail in encoded]
        nats, greedy = self._score(rows)
        return [
            Likelihood(nats[k], rows[k][1], len(continuation.encode()), greedy[k])
            for k, (_, continuation) in enumerate(pairs)
        ]

    def document_nats(self, text: str) -> list[tuple[list[int], int]]:
        """Windows of a document as rows for scoring: each of its tokens once, one token of context between windows."""
        ids = [self.start, *self.ids(text)]
        width = self.context
        return [(ids[at : at + width + 1], min(width, len(ids) - 1 - at)) for at in range(0, len(ids) - 1, width)]

    def bits_per_byte(self, texts: Sequence[str]) -> list[float]:
        """Bits per UTF-8 byte of each text, documents apart; special tokens are conditioned on, never counted."""
        windows = [self.document_nats(text) for text in texts]
        nats, _ = self._score([row for document in windows for row in document])
        found, at = [], 0
        for text, document in zip(texts, windows, strict=True):
            total = sum(nats[at : at + len(document)])
            at += len(document)
            found.append(-total / math.log(2) / max(1, len(text.encode())))
        return found

    @torch.inference_mode()
    def _score(self, rows: Sequence[tuple[list[int], int]]) -> tuple[list[float], list[bool]]:
        """Summed log-probability of the last n ids of each row (ids, n), and whether all of them were likeliest."""
        nats, greedy = [0.0] * len(rows), [True] * len(rows)
        for part in batches([len(ids) - 1 for ids, _ in rows], BATCH_TOKENS):
            width = max(len(rows[k][0]) for k in part) - 1
            ids = torch.full((len(part), width + 1), self.start, dtype=torch.int64)
            mask = torch.zeros((len(part), width), dtype=torch.bool)
            counted = torch.zeros((len(part), width), dtype=torch.bool)
            for at, k in enumerate(part):
                mine, tail = rows[k]
                ids[at, : len(mine)] = torch.tensor(mine)
                mask[at, : len(mine) - 1] = True
                counted[at, len(mine) - 1 - tail : len(mine) - 1] = True
            ids, mask, counted = ids.to(self.where), mask.to(self.where), counted.to(self.where)
            out = self.model(input_ids=ids[:, :-1], attention_mask=mask.long(), position_ids=positions(mask))
            wanted = out.logits[counted].float()  # (counted tokens, vocabulary)
            targets = ids[:, 1:][counted]
            log_p = -F.cross_entropy(wanted, targets, reduction="none")
            if not bool(torch.isfinite(log_p).all()):
                raise DataContractError(Problem("not-finite", "the model's log-probabilities are not finite"))
            right = wanted.argmax(1) == targets
            owner = torch.arange(len(part), device=self.where).unsqueeze(1).expand_as(counted)[counted]
            sums = torch.zeros(len(part), dtype=torch.float64, device=self.where)
            sums.index_add_(0, owner, log_p.double())
            wrong = torch.zeros(len(part), dtype=torch.int64, device=self.where).index_add_(0, owner, (~right).long())
            for at, k in enumerate(part):
                nats[k], greedy[k] = float(sums[at]), int(wrong[at]) == 0
        return nats, greedy

    @torch.inference_mode()
    def sample(self, prompts: Sequence[str], k: int, seed: int, how: Sampling = Sampling()) -> list[list[str]]:
        """`k` continuations of each prompt. They depend on the seed, the prompts and k, not on what ran before."""
        begin = [self.start] if self.bos else []
        return self._draw([begin + self.ids(self.prefixed(prompt)) for prompt in prompts], k, seed, how)

    @torch.inference_mode()
    def answer(self, prompts: Sequence[str], k: int, seed: int, how: Sampling = Sampling()) -> list[list[str]]:
        """`k` answers to each prompt, asked through the tokenizer's chat template."""
        return self._draw([prompt_ids(self.tokenizer, self.prefixed(prompt)) for prompt in prompts], k, seed, how)

    def prefixed(self, prompt: str) -> str:
        """The prompt after one of the prefixes, the same one for every model: drawn by the prompt's hash."""
        if not self.prefixes:
            return prompt
        return self.prefixes[int(unit_hash(prompt, PREFIXES) * len(self.prefixes))] + prompt

    def _draw(self, rows: Sequence[list[int]], k: int, seed: int, how: Sampling) -> list[list[str]]:
        encoded = [ids[-(self.context - how.new_tokens) :] or [self.start] for ids in rows]
        found: list[list[str]] = [[] for _ in rows]
        lengths = [k * (len(ids) + how.new_tokens) for ids in encoded]
        for number, part in enumerate(batches(lengths, DRAWN_TOKENS)):
            with torch.random.fork_rng(devices=[self.where] if self.where.type == "cuda" else []):
                torch.manual_seed(derive_seed(seed, "sample", str(number)))
                texts = self._continue([encoded[at] for at in part], k, how)
            for place, at in enumerate(part):
                found[at] = texts[place * k : (place + 1) * k]
        return found

    def _continue(self, rows: Sequence[list[int]], k: int, how: Sampling) -> list[str]:
        """`k` texts of each row, those of a row beside one another."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.start, dtype=torch.int64)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        for at, row in enumerate(rows):
            ids[at, width - len(row) :] = torch.tensor(row)
            mask[at, width - len(row) :] = True
        drawn = continuations(
            self.model, ids.to(self.where), mask.to(self.where), k,
            how.new_tokens, how.temperature, how.top_p, self._ends(), self.never,
        )  # fmt: skip
        texts: list[str] = self.tokenizer.batch_decode(drawn, skip_special_tokens=True)
        return texts

    def _ends(self) -> frozenset[int]:
        """Tokens after which an answer is over: the tokenizer's end of text, and what the model's own settings name."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        named = own if isinstance(own, list) else [own]
        return frozenset(token for token in [self.tokenizer.eos_token_id, *named] if token is not None)


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices of rows of much the same length, longest first, at most `tokens` padded tokens at a time."""
    part: list[int] = []
    for k in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        if part and lengths[part[0]] * (len(part) + 1) > tokens:
            yield part
            part = []
        part.append(k)
    if part:
        yield part
