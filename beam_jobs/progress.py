"""How far a pass is: a live line on a terminal, plain log lines elsewhere. Reads the markers that tasks leave."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from beam_jobs import io

POLL_S = 0.5
LOG_EVERY_S = 10.0


class Progress:
    """Reports on one stream, stderr by default: results belong to stdout."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=self.stream, flush=True)

    @contextmanager
    def watching(
        self, name: str, run: str, tasks: int, total_weight: float, weights: dict[int, float]
    ) -> Iterator[None]:
        """Report on pass `name` while the block runs.

        Args:
            weights: shard → about how many bytes of text, of the tasks to do; `total_weight` their sum.
        """
        stop = threading.Event()
        watcher = _Watcher(self, name, run, total_weight, weights)
        live = self.stream.isatty() and not self.quiet
        thread = threading.Thread(target=_live if live else _logged, args=(watcher, stop), daemon=True)
        started = time.monotonic()
        if not self.quiet and not live:
            self.say(f"{name}: {tasks} shard{'s' if tasks != 1 else ''}")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            elapsed = time.monotonic() - started
            watcher.poll()
            self.say(f"{name}: {watcher.summary(elapsed)} in {elapsed:.1f} s")


class _Watcher:
    """Adds up the markers of finished shards."""

    def __init__(self, progress: Progress, name: str, run: str, total: float, weights: dict[int, float]) -> None:
        self.progress, self.name, self.run, self.total, self.weights = progress, name, run, max(total, 1.0), weights
        self.seen: set[int] = set()
        self.documents = 0
        self.bytes = 0
        self.started = time.monotonic()

    def poll(self) -> None:
        for uri in io.match(io.join(self.run, "work", "markers", self.name, "part-*.json")):
            shard = int(uri.rsplit("part-", 1)[1].removesuffix(".json"))
            if shard in self.seen or shard not in self.weights:
                continue
            marker: dict[str, Any] = io.read_json(uri)
            self.seen.add(shard)
            self.documents += int(marker.get("documents", 0))
            self.bytes += int(marker.get("bytes", 0))

    @property
    def fraction(self) -> float:
        return sum(self.weights[shard] for shard in self.seen) / self.total

    def summary(self, elapsed: float) -> str:
        text = f"{self.documents:,} documents"
        if elapsed > 0:
            text += f", {self.documents / elapsed:,.0f}/s"
            if self.bytes:
                text += f", {self.bytes / 1e6 / elapsed:.1f} MB/s"
        return text

    def eta_s(self) -> float | None:
        done = self.fraction
        return (time.monotonic() - self.started) * (1 - done) / done if done > 0 else None


def _poll_until(watcher: _Watcher, stop: threading.Event, show: Callable[[], None]) -> None:
    while not stop.wait(POLL_S):
        watcher.poll()
        show()


def _live(watcher: _Watcher, stop: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[text]}"),
    )
    with Bar(*columns, console=Console(file=watcher.progress.stream), transient=True) as bar:
        task = bar.add_task(watcher.name, total=1.0, text="")

        def show() -> None:
            eta = watcher.eta_s()
            left = f", {eta:,.0f} s left" if eta is not None else ""
            bar.update(
                task, completed=watcher.fraction, text=watcher.summary(time.monotonic() - watcher.started) + left
            )

        _poll_until(watcher, stop, show)


def _logged(watcher: _Watcher, stop: threading.Event) -> None:
    last = time.monotonic()

    def show() -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            eta = watcher.eta_s()
            left = f", {eta:,.0f} s left" if eta is not None else ""
            text = watcher.summary(last - watcher.started)
            watcher.progress.say(f"{watcher.name}: {watcher.fraction:.0%} {text}{left}")

    _poll_until(watcher, stop, show)
