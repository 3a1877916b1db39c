"""Pretraining for real: tiny Shakespeare by characters, against the validation loss nanoGPT publishes for a CPU.

    python -m benchmarks.alignment_shakespeare PATH [--seed 1] [--threads 2]

PATH is the text (karpathy/char-rnn, data/tinyshakespeare/input.txt, 1,115,394 bytes), plain or .zst. nanoGPT's README
("I only have a macbook") trains 4 layers of 4 heads, 128 wide, on contexts of 64 characters, 12 a step, for 2,000 steps
without dropout and reports a validation loss of 1.88 nats a character. Ours is measured over the whole validation
tenth, theirs over 20 random batches of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zstandard

from alignment.loop import LoopSettings, train
from alignment.model import Size, new_model, parameters
from alignment.stages.pretrain import PretrainObjective, validation_loss
from alignment.tokens import TokenFolder, write_tokens

# nanoGPT, README and train.py at 3adf61e: what the CPU command sets, and the defaults it leaves.
CONTEXT, ROWS, STEPS, TRAIN_SHARE = 64, 12, 2000, 0.9
LAYERS, HEADS, WIDTH = 4, 4, 128
PUBLISHED = 1.88
LOOP = LoopSettings(
    learning_rate=1e-3,
    schedule="cosine",
    warmup=100 / STEPS,
    final=0.1,
    beta2=0.99,
    weight_decay=0.1,
    clip=1.0,
    precision="fp32",
    log_every=100,
)
SPECIAL = {"pad": 0, "bos": 1, "eos": 2}  # nanoGPT has none; ids a model must have


def read_text(path: Path) -> str:
    """The text, decompressed when its name ends in .zst."""
    content = path.read_bytes()
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return content.decode()


def characters(text: str, folder: Path) -> TokenFolder:
    """One id a character in the order of code points, the first nine tenths to train on: as nanoGPT's prepare.py."""
    known = {character: number + len(SPECIAL) for number, character in enumerate(sorted(set(text)))}
    ids = np.array([known[character] for character in text])
    cut = int(len(ids) * TRAIN_SHARE)
    size = len(known) + len(SPECIAL)
    return write_tokens(folder, [ids[:cut]], [ids[cut:]], context=CONTEXT, vocabulary=size, ids=SPECIAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        tokens = characters(read_text(given.path), Path(folder) / "tokens")
        # 8/3 of the width, so that SwiGLU has the weights of nanoGPT's MLP (four times the width, one matrix fewer).
        size = Size(WIDTH, LAYERS, HEADS, 344, tokens.vocabulary, CONTEXT)
        model = new_model(size, tokens.vocabulary, SPECIAL, given.seed, CONTEXT)
        objective = PretrainObjective(tokens, STEPS, ROWS, ROWS, given.seed)
        begun = time.process_time()
        progress = train(model, objective, LOOP, Path(folder) / "shakespeare", given.seed)
        spent = time.process_time() - begun
        found = {
            "parameters": parameters(model),
            "steps": progress.step,
            "characters": progress.tokens,
            "cpu_s": round(spent, 1),
            "wall_s": round(progress.wall_s, 1),
            "training_loss": round(progress.means["loss"], 4),
            "validation_loss": round(validation_loss(model, tokens, LOOP) or float("nan"), 4),
            "published": PUBLISHED,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
