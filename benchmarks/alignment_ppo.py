"""Whether PPO raises a reward that it does not see, and what an update costs beside TRL's last PPO trainer.

python -m benchmarks.alignment_ppo learn ../shared/data/alignment   # SFT, two reward models, three rounds of PPO
python -m benchmarks.alignment_ppo speed                            # the same as: python -m benchmarks.alignment ppo

`learn`: a small model is taught short answers of real dialogues; annotators with a stated taste, good manners,
rank its own answers; one half of the prompts trains the reward model, the other half a held-out one. PPO sees the first
alone. The annotators' own utility of the answers, before and after, is what the reward models stand for.

`speed` needs TRL 1.12.0 apart from the installed one, at HEADWATER_TRL112 or in .venv-trl112/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alignment.annotators import POOLS, Pool
from alignment.direct import interval, prompt_key
from alignment.loop import LoopSettings, device
from alignment.model import RewardModel, load_model, new_model, save_model
from alignment.ppo_inputs import split_prompts
from alignment.ppo_update import UpdateSettings
from alignment.preferences import DemonstrationRow, Prompt, RankedRow, read_demonstrations, read_preferences
from alignment.rollout import SamplingSettings, sample
from alignment.rounds import RoundsSettings, data_halves, rounds
from alignment.rows import prompt_ids, text_ids
from alignment.stages.ppo import KlSettings, Models, PpoSettings, Training
from alignment.stages.reward import RewardSettings, reward
from alignment.stages.sft import SftSettings, sft
from alignment.tokenizer import load_tokenizer, special_ids, train_tokenizer
from benchmarks.alignment import HEAD, Clock, Comparison, Options, Turn, alternate

OUT = Path(__file__).parent / "out" / "alignment_ppo"
HH = ("hh_harmless_even", "hh_helpful_base", "hh_helpful_rejection_sampled")
PLAIN = ("alpaca_5000", "alpaca_gpt4_en")
VOCABULARY, CONTEXT, PROMPT_TOKENS, ANSWER_TOKENS = 2048, 192, 96, 48
# Of two answers with equal manners they prefer none; one order in twenty is turned round.
TASTE = POOLS["courteous"].model_copy(update={"temperature": 0.0, "flip_rate": 0.05})
FEEDBACK, ANSWERS = 1500, 4  # prompts and answers to each that annotators rank before the first round
TRL112 = Path(os.environ.get("HEADWATER_TRL112", Path(__file__).parents[1] / ".venv-trl112"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    learning, speeding = verbs.add_parser("learn"), verbs.add_parser("speed")
    learning.add_argument("data", type=Path)
    learning.add_argument("--size", default="160k")
    learning.add_argument("--rounds", type=int, default=3)
    learning.add_argument("--updates", type=int, default=25)
    learning.add_argument("--rate", type=float, default=2e-4)
    learning.add_argument("--beta", type=float, default=0.4)
    learning.add_argument("--seed", type=int, default=0)
    learning.add_argument("--out", type=Path, default=OUT)
    for name, default in asdict(Options()).items():
        speeding.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args(arguments)
    if given.verb == "learn":
        torch.set_num_threads(1)
        learn(given)
        return
    torch.set_num_threads(given.threads)
    print(HEAD)
    for comparison in compare(Options(given.rounds, given.steps, given.warm, given.threads)):
        print(comparison.row(), flush=True)


# Learning


def learn(given: argparse.Namespace) -> None:
    """SFT → answers → ranks → two reward models → rounds of PPO; prints each with its CPU seconds."""
    clock = Clock()
    clock.start()

    def say(text: str) -> None:
        clock.stop()
        print(f"[{clock.cpu_s:4.0f} CPU-s] {text}", flush=True)

    rows = demonstrations(given.data)
    start = taught(given, rows)
    m = start.metrics
    say(f"sft: {m['rows']:.0f} rows, {start.steps} steps; EOS rate {m['eos_rate_after']:.2f}")
    # Prompts that SFT held out are those that the rounds measure on. Reward models hold out twice the share: those, of
    # which there are no ranks, and as many more.
    train, held = split_prompts([row.prompt for row in rows], None, HELD_OUT)
    pool = Pool(TASTE, given.seed)
    ranked = asked(given, Path(start.path), train[:FEEDBACK], pool)
    halves = data_halves(ranked)
    loop = RewardSettings().loop.model_copy(update={"learning_rate": 2e-3, "precision": "fp32"})
    settings = RewardSettings(loop=loop, epochs=4, batch=32, keep_layers=1.0, held_out=2 * HELD_OUT)
    judges = []
    for name, half in zip(("reward", "heldout"), halves, strict=True):
        made = reward(settings, start.path, half, given.out / f"{name}-{tag(given)}", given.seed, rows[:400])
        judges.append(made.path)
        m = made.metrics
        say(
            f"{name} model: {len(half)} ranked lists, {m['held_out_pairs']:.0f} held-out pairs, accuracy "
            f"{m['accuracy']:.3f} [{m['accuracy_low']:.3f}, {m['accuracy_high']:.3f}]"
        )
    folder = given.out / f"rounds-{tag(given)}-{label(given)}"
    result = rounds(
        rounds_settings(given), start.path, judges[0], judges[1], train, folder,
        given.seed, evaluation_prompts=held, annotate=pool.rank, annotators=TASTE.name, rows=halves[0],
        reference=rows[:400],
    )  # fmt: skip
    for one in result.rounds:
        r = one.report
        gold = np.mean(utilities(given, one.policy, held, pool))
        say(
            f"round {one.number}: held-out reward {r.heldout_reward:+.3f}, reward {r.reward:+.3f}, utility {gold:.3f}, "
            f"KL {r.kl:.2f} (k3 {r.kl_k3:.2f}) nats, EOS rate {r.eos_rate:.2f}, diversity {r.diversity:.3f}, "
            f"length {r.length:.1f}, entropy {r.entropy:.2f}"
        )
    m = result.stage.metrics
    before, after = (utilities(given, path, held, pool) for path in (start.path, result.stage.path))
    gain = interval("gain", after - before, [prompt_key(prompt) for prompt in held])
    say(
        f"ended: {result.stop}; best round {result.best}; held-out reward {m['heldout_gain']:+.3f} "
        f"[{m['heldout_gain_low']:+.3f}, {m['heldout_gain_high']:+.3f}], utility of the annotators "
        f"{before.mean():.3f} → {after.mean():.3f}, {gain['gain']:+.3f} "
        f"[{gain['gain_low']:+.3f}, {gain['gain_high']:+.3f}] (95 %, {m['prompts']:.0f} held-out prompts)"
    )


HELD_OUT = 0.1


def rounds_settings(given: argparse.Namespace) -> RoundsSettings:
    """What the rounds of `learn` are."""
    loop = PpoSettings().loop.model_copy(
        update={"learning_rate": given.rate, "precision": "fp32", "schedule": "constant"}
    )
    stage = PpoSettings(
        loop=loop,
        critic_learning_rate=2 * given.rate,
        updates=given.updates,
        episodes=64,
        sampling=SamplingSettings(response_tokens=ANSWER_TOKENS),
        update=UpdateSettings(epochs=2, minibatches=2),
        kl=KlSettings(coefficient=given.beta),
    )
    refit = RewardSettings(loop=LoopSettings(learning_rate=5e-4, precision="fp32", weight_decay=0.0), batch=32)
    return RoundsSettings(
        rounds=given.rounds, ppo=stage, refit=refit, feedback_prompts=200, feedback_responses=ANSWERS, kl_budget=20.0
    )


def label(given: argparse.Namespace) -> str:
    """What is in the name of a folder of rounds."""
    return f"{given.rounds}x{given.updates}-{given.rate:g}-{given.beta:g}"


def tag(given: argparse.Namespace) -> str:
    """What is in the name of every folder."""
    return f"{given.size}-{given.seed}"


def demonstrations(data: Path) -> list[DemonstrationRow]:
    """Short answers of real dialogues and instructions, each prompt once."""
    pairs = read_preferences(*(data / f"{name}.jsonl.zst" for name in HH))
    rows = [DemonstrationRow(row.prompt, row.chosen) for row in pairs]
    rows += read_demonstrations(*(data / f"{name}.jsonl.zst" for name in PLAIN))
    tokenizer = made_tokenizer(rows)
    found: dict[str, DemonstrationRow] = {}
    for row in rows:
        fits = len(text_ids(tokenizer, row.response)) < ANSWER_TOKENS - 8
        if fits and row.response.strip() and len(prompt_ids(tokenizer, row.prompt)) <= PROMPT_TOKENS:
            found.setdefault(prompt_key(row.prompt), row)
    return list(found.values())


def made_tokenizer(rows: Sequence[DemonstrationRow]) -> Any:
    """One BPE tokenizer for all."""
    folder = OUT / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        train_tokenizer((f"{row.prompt} {row.response}" for row in rows), VOCABULARY).save_pretrained(folder)
    return load_tokenizer(folder)


def taught(given: argparse.Namespace, rows: Sequence[DemonstrationRow]) -> Any:
    """The SFT model: from scratch, first everything it is shown, then answers alone."""
    tokenizer = made_tokenizer(rows)
    base = given.out / f"new-{tag(given)}"
    save_model(new_model(given.size, len(tokenizer), special_ids(tokenizer), given.seed, CONTEXT), tokenizer, base)
    loop = SftSettings().loop.model_copy(update={"learning_rate": 3e-3, "precision": "fp32"})
    settings = SftSettings(
        loop=loop, epochs=6, batch=32, micro=32, length=CONTEXT, held_out=HELD_OUT, response_tokens=ANSWER_TOKENS
    )
    return sft(settings, base, rows, given.out / f"sft-{tag(given)}", given.seed)


def answers(given: argparse.Namespace, policy: Path | str, prompts: Sequence[Prompt], each: int) -> list[list[str]]:
    """`each` sampled texts to every prompt."""
    tokenizer, model = load_tokenizer(policy), load_model(policy).to(device()).eval()
    ids = special_ids(tokenizer)
    settings = SamplingSettings(response_tokens=ANSWER_TOKENS)
    rows = [prompt_ids(tokenizer, prompt) for prompt in prompts for _ in range(each)]
    texts = []
    for begin in range(0, len(rows), 64):
        found, real = sample(model, rows[begin : begin + 64], settings, ids["pad"], ids["eos"], given.seed + begin)
        for row, kept in zip(found[:, -real.shape[1] :], real, strict=True):
            texts.append(tokenizer.decode(row[kept].tolist(), skip_special_tokens=True).strip())
    return [texts[k : k + each] for k in range(0, len(texts), each)]


def asked(given: argparse.Namespace, policy: Path, prompts: Sequence[Prompt], pool: Pool) -> list[RankedRow]:
    """The annotators' ranking of the policy's own answers."""
    found = []
    for prompt, texts in zip(prompts, answers(given, policy, prompts, ANSWERS), strict=True):
        different = list(dict.fromkeys(text for text in texts if text))
        if len(different) > 1:
            found.append(pool.rank(prompt, different))
    return found


def utilities(given: argparse.Namespace, policy: Path | str, prompts: Sequence[Prompt], pool: Pool) -> Any:
    """(prompts,) what an answer is worth to the annotators."""
    return np.array(
        [pool.utility(p, texts[0]) for p, texts in zip(prompts, answers(given, policy, prompts, 1), strict=True)]
    )


# Speed

SIZE, WORDS, EPISODES, RESPONSE, EPOCHS = "1m", 2048, 32, 32, 4
IDS = {"pad": 0, "bos": 1, "eos": 2}


def compare(options: Options) -> Iterator[Comparison]:
    """fp32 and bf16: updates of 32 episodes with 32 tokens and 4 epochs: sampling, scoring, learning, logging."""
    if not (TRL112 / "trl" / "experimental" / "ppo").is_dir():
        print(f"| ppo | TRL 1.12.0 is not at {TRL112}: not measured |")
        return
    for precision in ("fp32", "bf16"):
        yield alternate(
            f"ppo {SIZE} {precision}",
            "trl 1.12.0 PPOTrainer",
            lambda precision=precision: ours(precision, options),  # type: ignore[misc]
            lambda precision=precision: theirs(precision, options),  # type: ignore[misc]
            options,
        )


def model(seed: int) -> Any:
    """A policy; of equal size are reference, critic and reward model, as TRL's examples have it."""
    return new_model(SIZE, WORDS, IDS, seed, context=128)


def random_prompts(options: Options) -> list[list[int]]:
    """As many as all updates need, of 16 to 48 tokens."""
    draw = np.random.default_rng(0)
    count = EPISODES * (options.warm + options.steps)
    return [[1, *draw.integers(3, WORDS, draw.integers(15, 48)).tolist()] for _ in range(count)]


def tokens_of(prompts: Sequence[Sequence[int]], options: Options) -> int:
    """Tokens of the episodes of the counted updates; of random models hardly an answer ends before its limit."""
    mean = sum(map(len, prompts)) / len(prompts) + RESPONSE
    return round(EPISODES * options.steps * mean)


class Timed(Training):
    """Starts its clock with update `warm`."""

    warm = 0

    def update(self) -> dict[str, float] | None:
        if self.progress.step == self.warm:
            self.clock = Clock()
            self.clock.start()
        return super().update()


def ours(precision: str, options: Options) -> Turn:
    """Updates of our stage."""
    updates = options.warm + options.steps
    loop = PpoSettings().loop.model_copy(update={"learning_rate": 1e-5, "precision": precision})
    settings = PpoSettings(
        loop=loop,
        updates=updates,
        episodes=EPISODES,
        sampling=SamplingSettings(response_tokens=RESPONSE),
        update=UpdateSettings(epochs=EPOCHS),
    )
    critic, judge = (RewardModel.from_causal(model(seed), seed) for seed in (2, 3))
    models = Models(model(0), model(0), critic, judge)
    prompts = random_prompts(options)
    with tempfile.TemporaryDirectory() as folder:
        training = Timed(settings, models, prompts, IDS, Path(folder), 0)
        training.warm = options.warm
        training.run()
        training.clock.stop()
    return Turn(tokens_of(prompts, options), training.clock.cpu_s, training.clock.wall_s)


def theirs(precision: str, options: Options) -> Turn:
    """The same in a process that finds TRL 1.12.0 first."""
    wanted = {"precision": precision, **asdict(options)}
    root = Path(__file__).parents[1]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(TRL112), str(root)]), "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "OMP_NUM_THREADS": str(options.threads),
    }  # fmt: skip
    command = [sys.executable, "-c", "import sys; from benchmarks import alignment_ppo as b; b.trl_main(sys.argv[1])"]
    done = subprocess.run([*command, json.dumps(wanted)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"TRL 1.12.0 failed:\n{done.stderr[-3000:]}")
    return Turn(**json.loads(done.stdout.splitlines()[-1]))


def trl_main(wanted: str) -> None:
    """In the process of `theirs`: train, then print a `Turn` as JSON."""
    import trl
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForSequenceClassification, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    assert trl.__version__ == "1.12.0"
    given = json.loads(wanted)
    precision = given.pop("precision")
    options = Options(**given)
    torch.set_num_threads(options.threads)
    clock, prompts = Clock(), random_prompts(options)

    class FromWarm(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == options.warm:
                clock.start()
            if state.global_step == options.warm + options.steps:
                clock.stop()

    def scalar() -> Any:
        return LlamaForSequenceClassification(LlamaConfig(**{**model(0).config.to_dict(), "num_labels": 1}))

    def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        return {"input_ids": torch.tensor([[0] * (width - len(r["input_ids"])) + r["input_ids"] for r in rows])}

    class Ids:
        pad_token_id, eos_token_id = 0, 2

    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder, report_to=[], bf16=precision == "bf16", gradient_checkpointing=False,
            num_sample_generations=0, save_strategy="no", use_cpu=True, disable_tqdm=True, logging_steps=1,
            per_device_train_batch_size=EPISODES, gradient_accumulation_steps=1, num_mini_batches=1,
            num_ppo_epochs=EPOCHS, total_episodes=len(prompts), response_length=RESPONSE, stop_token="eos",
            temperature=1.0, learning_rate=1e-5, missing_eos_penalty=1.0,
        )  # fmt: skip
        data = Dataset.from_list([{"input_ids": prompt} for prompt in prompts])
        trainer = PPOTrainer(
            config, Ids(), model(0), model(0), scalar(), data, scalar(), data_collator=collate, callbacks=[FromWarm()]
        )
        trainer.train()
    print(json.dumps(asdict(Turn(tokens_of(prompts, options), clock.cpu_s, clock.wall_s))))


if __name__ == "__main__":
    main()
