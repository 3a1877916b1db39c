"""What a stage says of itself, and to whom."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from full_disk import full_disk

from alignment import metrics_log
from alignment.metrics_log import MetricsLog, ProgressLine
from curation.errors import StageError


def written(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_row_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, {"loss": 2.5, "tokens": 10})
        assert written(tmp_path) == [{"step": 1, "loss": 2.5, "tokens": 10}]


def test_rows_after_the_checkpoint_and_half_rows_are_cut_off(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    with MetricsLog(tmp_path, 2) as log:
        log.write(3, {"loss": 33.0})

    assert written(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 33.0}]


def test_a_stage_that_begins_anew_begins_an_empty_log(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, {"loss": 1.0})
    with MetricsLog(tmp_path, 0):
        assert written(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_stops_the_stage_and_names_the_step(tmp_path: Path, value: float) -> None:
    with MetricsLog(tmp_path, 0) as log:
        with pytest.raises(StageError, match=r"`reward` is .*\n.*step 7"):
            log.write(7, {"loss": 1.0, "reward": value})
        assert written(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StageError, match="log-not-written"):
        MetricsLog(tmp_path / "file", 0)


def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log, "_tensorboard", lambda folder, done: None)
    with MetricsLog(tmp_path, 0) as log:
        for step in range(1, 30):
            log.write(step, {"loss": 1.0})
        written_so_far = (tmp_path / "metrics.jsonl").stat().st_size
        with full_disk(written_so_far + 10), pytest.raises(StageError, match="log-not-written") as caught:
            log.write(30, {"loss": 1.0})

    assert caught.value.problems[0].where == str(tmp_path / "metrics.jsonl")
    with MetricsLog(tmp_path, 10):
        assert [row["step"] for row in written(tmp_path)] == list(range(1, 11))


def test_tensorboard_reads_what_was_written_and_not_what_was_cut(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step), "kind": "text"})
    with MetricsLog(tmp_path, 2) as log:
        log.write(3, {"loss": 33.0})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()

    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 33.0)]


class FakeWandb(types.ModuleType):
    """Records the calls: the service itself is nothing a test may reach."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[Any] = []

    def init(self, **settings: Any) -> FakeWandb:
        self.calls.append(("init", settings))
        return self

    def log(self, numbers: dict[str, Any], step: int) -> None:
        self.calls.append(("log", numbers, step))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    found = metrics_log._installed
    monkeypatch.setattr(metrics_log, "_installed", lambda name: name == "wandb" or found(name))
    return fake


def test_a_folder_with_the_name_of_a_package_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    assert metrics_log.importlib.util.find_spec("no_such_package") is not None
    assert not metrics_log._installed("no_such_package")
    assert metrics_log._installed("json")


@pytest.mark.parametrize("mode", [None, "disabled", ""])
def test_nothing_is_sent_anywhere_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb: FakeWandb, mode: str | None
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)  # being logged in is no wish to send
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, {"loss": 1.0})

    assert wandb.calls == []


def test_a_stage_that_goes_on_goes_on_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb: FakeWandb
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, {"loss": 1.0})
    with pytest.raises(StageError), MetricsLog(tmp_path, 1) as log:
        log.write(2, {"loss": float("nan")})

    names = [call[0] for call in wandb.calls]
    assert names == ["init", "log", "finish", "init", "finish"]
    assert wandb.calls[0] == wandb.calls[3]
    assert wandb.calls[0][1]["resume"] == "allow"
    assert wandb.calls[1] == ("log", {"loss": 1.0}, 1)
    assert [call[1] for call in wandb.calls if call[0] == "finish"] == [0, 1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"s": 1000.0}
    monkeypatch.setattr(metrics_log.time, "monotonic", lambda: now["s"])
    return now


def shown(stream: io.StringIO, clock: dict[str, float]) -> str:
    line = ProgressLine("sft", 100, 40, stream)
    for step in range(41, 101):
        clock["s"] += 1.5
        line.show(step, 10 / step, 12345.6)
    line.end("100 steps")
    return stream.getvalue()


def test_a_log_gets_a_line_a_minute(clock: dict[str, float]) -> None:
    assert shown(io.StringIO(), clock) == (
        "sft: step 80 of 100, loss 0.1250, 12,346 tokens/s, 30 s left\nsft: 100 steps\n"
    )


def test_a_terminal_gets_one_line_that_is_written_over(clock: dict[str, float]) -> None:
    text = shown(Terminal(), clock)
    lines = text.split("\r")

    assert len(lines) == 1 + 30 + 1
    assert lines[1] == "sft: step 42 of 100, loss 0.2381, 12,346 tokens/s, 87 s left"
    assert text.count("\n") == 1
    assert lines[-1].rstrip() == "sft: 100 steps"
    assert len(lines[-1].rstrip("\n")) >= len(lines[-2])  # nothing of the line before stays


def test_a_process_that_is_not_the_first_is_quiet(clock: dict[str, float]) -> None:
    stream = io.StringIO()
    line = ProgressLine("sft", 100, 0, stream, quiet=True)
    clock["s"] += 100
    line.show(1, 1.0, 1.0)
    line.end("done")
    assert stream.getvalue() == ""
