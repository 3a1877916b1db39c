"""Two processes take the steps that one takes: with gloo on CPUs, started the way torchrun starts them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment import processes
from alignment.processes import Processes
from curation.errors import ConfigError

pytest.importorskip("accelerate")

PROGRAM = '''
import json, os, sys
from pathlib import Path
import accelerate, torch
from torch import nn
from alignment import metrics_log, processes
from alignment.loop import LoopSettings, Micro, SliceOverError, train
from alignment.stage import finish_stage, finished_stage
torch.set_num_threads(1)
metrics_log._tensorboard = lambda folder, done: None  # takes seconds to import

class Rows:
    """Steps of 5, 1 and 2 micro-batches of unequal size: of two processes one has more to do, or all."""
    steps = 6
    def batch(self, step):
        generator = torch.Generator().manual_seed(step)
        sizes = [(3, 1, 4, 2, 5), (4,), (1, 6)][step % 3]
        return [Micro({"x": torch.randn(n, 8, generator=generator, dtype=torch.float64)}, n, n) for n in sizes]
    def loss(self, model, micro):
        errors = (model.used(micro.tensors["x"]) ** 2).sum(1)
        return errors.sum(), {"largest": errors.max() * micro.units}

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)

def network():
    torch.manual_seed(0)
    return Network().double()

settings = LoopSettings(precision="fp32", learning_rate=1e-2, log_every=1, clip=0.5)

def run(folder):
    finished_stage(folder / "whole", "f00d")
    model = network()
    progress = train(model, Rows(), settings, folder / "whole", seed=1)
    finish_stage(folder / "whole", "sft", "f00d", "abc", progress, progress.means, {})
    sliced, slices = network(), 0
    while True:
        try:
            train(sliced, Rows(), settings.model_copy(update={"stop_after_s": 1e-9}), folder / "sliced", seed=1)
            break
        except SliceOverError:
            slices += 1
            sliced = network()
    here = processes.join()
    same = all(torch.equal(a, b) for a, b in zip(model.parameters(), sliced.parameters()))
    torch.save(model.state_dict(), folder / f"weights-{here.rank}.pt")
    said = {"slices": slices, "same": same, "tokens": progress.tokens, "means": progress.means, "count": here.count}
    (folder / f"said-{here.rank}.json").write_text(json.dumps(said))

folder, port = Path(sys.argv[1]), sys.argv[2]
children = []
for rank in "01":  # imported once: each child finds what torchrun would have set
    children.append(os.fork())
    if children[-1] == 0:
        os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        run(folder / "two")
        os._exit(0)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
run(folder / "one")
'''


def said(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"said-{rank}.json").read_text())
    return found


def test_two_processes_end_with_the_weights_of_one_and_the_first_writes_the_files(tmp_path: Path, repo: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(port)]
    subprocess.run(command, cwd=repo, env=environment, check=True, stderr=subprocess.DEVNULL)
    one, first, second = said(tmp_path / "one", 0), said(tmp_path / "two", 0), said(tmp_path / "two", 1)
    expected = torch.load(tmp_path / "one" / "weights-0.pt")

    assert (one["count"], first["count"], second["count"]) == (1, 2, 2)
    for rank in (0, 1):
        found = torch.load(tmp_path / "two" / f"weights-{rank}.pt")
        assert list(found) == list(expected)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)
    assert one["tokens"] == first["tokens"] == second["tokens"] == 52
    assert first["means"] == second["means"] == pytest.approx(one["means"], abs=1e-6)
    # Both stop at the same steps and go on to the same weights.
    assert [each["slices"] for each in (one, first, second)] == [5, 5, 5]
    assert all(each["same"] for each in (one, first, second))
    for folder in ("one", "two"):
        rows = (tmp_path / folder / "whole" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert json.loads((tmp_path / folder / "whole" / "stage.json").read_text())["tokens_seen"] == 52


def test_every_micro_batch_falls_to_one_process() -> None:
    shares = [Processes(rank, 3, torch.device("cpu")).share(list(range(8))) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_alone_there_is_nobody_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    alone = processes.join()

    assert (alone.rank, alone.count, processes.first()) == (0, 1, True)
    assert alone.sum_numbers({"loss": 1.5}) == {"loss": 1.5}
    assert alone.first_says(True) is True
    processes.wait()


def test_several_processes_without_accelerate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match="no-accelerate"):
        processes.join()
