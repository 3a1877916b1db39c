"""A stage that was killed, or stopped by its time slice, ends with the very weights of one that ran through."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from token_folder import CONTEXT, tiny_tokens
from torch import Tensor, nn

from alignment import checkpoint
from alignment.loop import LoopSettings, Micro, Progress, SliceOverError, train
from alignment.model import weights_sha256
from alignment.stages.pretrain import PretrainSettings, pretrain
from curation.errors import DataContractError, StageError

STEPS = 24


class Noisy:
    """Draws from every generator in the loss: resuming is exact only if all of them are restored."""

    steps = STEPS

    def batch(self, step: int) -> list[Micro]:
        generator = torch.Generator().manual_seed(step)
        return [Micro({"x": torch.randn(4, 8, generator=generator)}, units=4, tokens=4) for _ in range(2)]

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        x = micro.tensors["x"] + torch.randn(8) + random.gauss(0, 1)
        loss = (model(x) ** 2).sum()
        return loss, {"doubled": 2 * loss}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.Linear(16, 8))


def settings(**change: Any) -> LoopSettings:
    return LoopSettings(precision="fp32", log_every=1, **change)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics without the clock."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("wall_s", "tokens_per_s")} for row in found]


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The weights and metrics of a run that was never stopped."""
    folder, model = tmp_path_factory.mktemp("through"), network()
    random.seed(3)
    train(model, Noisy(), settings(), folder, seed=1)
    return weights_sha256(model), rows(folder)


class Stopped(Exception):  # noqa: N818
    """Something broke in the middle of a step."""


class Breaking(Noisy):
    """Breaks in step `at`, in the middle of it: one of its two micro-batches is through."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def batch(self, step: int) -> list[Micro]:
        self.step = step
        return super().batch(step)

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen += self.step == self.at
        if self.seen == 2:
            raise Stopped
        return super().loss(model, micro)


@pytest.mark.parametrize("at", [0, 1, 7, STEPS - 1])
def test_a_run_that_broke_in_a_step_ends_like_one_that_did_not(
    tmp_path: Path, at: int, through: tuple[str, list[dict[str, Any]]]
) -> None:
    random.seed(3)
    with pytest.raises(Stopped):
        train(network(), Breaking(at), settings(checkpoint_every_s=0), tmp_path, seed=1)
    if at:  # else there is no checkpoint, and python's generator begins where this process left it
        random.seed(77)
        torch.manual_seed(77)
    else:
        random.seed(3)
    model = network()
    progress = train(model, Noisy(), settings(), tmp_path, seed=1)

    assert (weights_sha256(model), rows(tmp_path)) == through
    assert (progress.step, progress.tokens) == (STEPS, STEPS * 8)


def test_slices_end_with_the_same_weights_and_say_where_they_stopped(
    tmp_path: Path, through: tuple[str, list[dict[str, Any]]]
) -> None:
    random.seed(3)
    slices = 0
    while True:
        model = network()
        try:
            progress = train(model, Noisy(), settings(stop_after_s=1e-9 if slices < 5 else None), tmp_path, seed=1)
        except SliceOverError as error:
            slices, last = slices + 1, error
            continue
        break

    assert slices == 5
    assert last.exit_code == 4
    assert f"stopped after step 5 of {STEPS}" in str(last)
    assert (weights_sha256(model), rows(tmp_path)) == through
    assert progress.wall_s > 0


def test_from_the_checkpoint_before_a_damaged_one_it_ends_the_same(
    tmp_path: Path, through: tuple[str, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    random.seed(3)
    with pytest.raises(Stopped):
        train(network(), Breaking(9), settings(checkpoint_every_s=0), tmp_path, seed=1)
    newest = checkpoint.finished(tmp_path / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    model = network()
    train(model, Noisy(), settings(), tmp_path, seed=1)

    assert (weights_sha256(model), rows(tmp_path)) == through
    assert "going on from checkpoint-000000008" in capsys.readouterr().err


def test_with_every_checkpoint_damaged_nothing_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(network(), Breaking(9), settings(checkpoint_every_s=0), tmp_path, seed=1)
    before = rows(tmp_path)
    for path in checkpoint.finished(tmp_path / "checkpoints"):
        path.write_bytes(b"")

    with pytest.raises(DataContractError, match="no checkpoint can be read"):
        train(network(), Noisy(), settings(), tmp_path, seed=1)
    assert rows(tmp_path) == before


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(network(), Breaking(3), settings(checkpoint_every_s=0), tmp_path, seed=1)
    with pytest.raises(DataContractError, match="other-model"):
        train(nn.Sequential(nn.Linear(8, 8)), Noisy(), settings(), tmp_path, seed=1)


def test_a_progress_that_was_saved_is_the_progress_that_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(network(), Breaking(5), settings(checkpoint_every_s=0), tmp_path, seed=1)
    state = checkpoint.newest(tmp_path / "checkpoints")

    assert state is not None
    progress = Progress(**state["progress"])
    assert (progress.step, progress.tokens, set(progress.means)) == (5, 40, {"loss", "doubled"})


# Reads a line, runs the stage in a child of its own, says the child's id and how it ended. torch is imported once.
RUNNER = """
import os, resource, sys
import time
from pathlib import Path
import torch
from alignment.loop import LoopSettings
from alignment.stages.pretrain import PretrainSettings, pretrain
from curation.errors import HeadwaterError
torch.set_num_threads(1)
loop = LoopSettings(learning_rate=3e-3, precision="fp32", log_every=1, checkpoint_every_s=0.0)
settings = PretrainSettings(size="160k", tokens=6000, batch_tokens=128, micro_rows=4, loop=loop)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        if line == "full disk\\n":  # no file grows beyond: what a full disk does to a write
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        try:
            pretrain(settings, Path(sys.argv[1]), Path(sys.argv[2]), seed=1)
        except HeadwaterError as error:
            os._exit(error.exit_code)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Runner:
    """A process that runs the stage as often as it is told to."""

    def __init__(self, repo: Path, tokens: Path, folder: Path) -> None:
        command = [sys.executable, "-c", RUNNER, str(tokens), str(folder)]
        self.metrics = folder / "metrics.jsonl"
        self.process = subprocess.Popen(
            command, cwd=repo, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def run(self, kill_after: int | None = None, full_disk: bool = False) -> int:
        """How it ended: signal or exit code. `kill_after` rows of metrics it is killed, in whatever it does then."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("full disk\n" if full_disk else "run\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        while kill_after is not None:
            if self.metrics.is_file() and self.metrics.read_bytes().count(b"\n") >= kill_after:
                os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.001)
        status = int(self.process.stdout.readline())
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def test_pretraining_killed_at_random_steps_and_on_a_full_disk_ends_with_the_same_weights(
    tmp_path: Path, repo: Path
) -> None:
    tokens = tiny_tokens(tmp_path)
    loop = LoopSettings(learning_rate=3e-3, precision="fp32", log_every=1)
    plain = PretrainSettings(size="160k", tokens=6000, batch_tokens=8 * CONTEXT, micro_rows=4, loop=loop)
    expected = pretrain(plain, tokens.path, tmp_path / "through", seed=1)
    folder = tmp_path / "killed"
    runner = Runner(repo, tokens.path, folder)
    for seen in sorted(random.Random(11).sample(range(1, 40), 4)):
        assert runner.run(kill_after=seen) == signal.SIGKILL
        assert not (folder / "stage.json").exists()
    kept = checkpoint.finished(folder / "checkpoints")
    assert runner.run(full_disk=True) == StageError.exit_code
    assert checkpoint.finished(folder / "checkpoints") == kept
    assert runner.run() == 0
    runner.close()

    found = json.loads((folder / "stage.json").read_text())
    assert found["weights_sha256"] == expected.weights_sha256
    assert found["fingerprint"] == expected.fingerprint  # how often it is kept does not make it another stage
    assert (found["steps"], found["tokens_seen"]) == (46, expected.tokens_seen)
    assert rows(folder) == rows(tmp_path / "through")
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pretraining_in_slices_ends_with_the_same_weights(tmp_path: Path, precision: Literal["fp32", "bf16"]) -> None:
    tokens = tiny_tokens(tmp_path)
    loop = LoopSettings(learning_rate=3e-3, precision=precision, log_every=1)
    plain = PretrainSettings(size="160k", batch_tokens=8 * CONTEXT, micro_rows=4, loop=loop)
    sliced = plain.model_copy(update={"loop": loop.model_copy(update={"stop_after_s": 0.03})})
    expected = pretrain(plain, tokens.path, tmp_path / "through", seed=1)
    slices = 1
    while True:
        try:
            found = pretrain(sliced, tokens.path, tmp_path / "sliced", seed=1)
            break
        except SliceOverError:
            slices += 1

    assert slices > 1
    assert found.weights_sha256 == expected.weights_sha256
    assert found.metrics == expected.metrics
    assert rows(tmp_path / "sliced") == rows(tmp_path / "through")
