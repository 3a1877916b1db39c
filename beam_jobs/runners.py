"""How a pass is run: tasks in lanes, on whatever runner the user named, watched.

`run_tasks` is the one shape every pass but the shuffle has: a list of tasks lies in a file of the run; the pipeline
reads the list, spreads it by a GroupByKey over small integers, and each task writes its files and, last, its marker.
Only that: no Read(), no file sink, no side input, no state, no timer, so that every portable runner can do it.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import io
from beam_jobs.dataflow import resource_hints
from beam_jobs.runner_choice import LOCAL_RUNNER, choose_runner
from curation.errors import HeadwaterError, Problem, StageError

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h
KEPT_BYTES = 512 << 20  # so much free memory at the end of the heap stays in the process
# How Spark and Flink report through Beam: the cause after these words, then the frames of the Java stack.
JOB_FAILED = " failed in state FAILED: "
JAVA_FRAME = re.compile(r"(at )?[\w.$]+(/[\w.$]+)?\.[\w$<>]+\([\w$]+(\.java|\.scala|\.kt| )|\.\.\. \d+ more")
# A task file has one JSON object a line; `weight` balances the lanes.
Task = dict[str, Any]


@dataclass(frozen=True)
class RunnerSettings:
    """Which runner and how many local workers."""

    workers: int
    beam_options: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        return choose_runner(self.beam_options, self.workers).name == LOCAL_RUNNER

    def pipeline(self, python_heavy: bool) -> Any:
        """An empty pipeline on the chosen runner.

        A local pass of compiled kernels runs in threads (no start-up cost, the kernels release the GIL); one that
        spends its time in Python runs in processes.
        """
        if not self.is_local:
            return beam.Pipeline(options=PipelineOptions(list(self.beam_options)))
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
        from apache_beam.transforms.environments import SubprocessSDKEnvironment

        options = [*self.beam_options, f"--direct_num_workers={self.workers}"]
        environment = None
        if self.workers > 1 and python_heavy:
            command = f"{sys.executable} -m beam_jobs.worker"
            environment = SubprocessSDKEnvironment.from_command_string(command_string=command)
        elif self.workers > 1:
            options.append("--direct_running_mode=multi_threading")
        return beam.Pipeline(runner=FnApiRunner(default_environment=environment), options=PipelineOptions(options))


class _EmitTasks(beam.DoFn):  # type: ignore[misc]
    """Reads the task file inside the pipeline, so that the job graph stays small whatever the number of tasks."""

    def __init__(self, tasks_uri: str, lanes: int) -> None:
        self.tasks_uri, self.lanes = tasks_uri, lanes

    def process(self, _: bytes) -> Iterator[tuple[int, bytes]]:
        tasks = [line for line in io.read_bytes(self.tasks_uri).splitlines() if line]
        lanes = assign_lanes([json.loads(task)["weight"] for task in tasks], self.lanes)
        yield from zip(lanes, tasks, strict=True)


class _RunLane(beam.DoFn):  # type: ignore[misc]
    """Runs the tasks of a lane one after the other; what goes wrong is written beside the run before it is raised."""

    def __init__(self, function: str, context: dict[str, Any], errors_uri: str) -> None:
        self.function, self.context, self.errors_uri = function, context, errors_uri

    def process(self, lane: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        run = resolve(self.function)
        done = 0
        for line in sorted(lane[1], key=lambda t: (-json.loads(t)["weight"], t)):
            try:
                run(json.loads(line), self.context)
            except HeadwaterError as error:
                problems = [vars(problem) for problem in error.problems]
                with suppress(StageError):  # a disk too full for this file: Beam carries the text of the error
                    io.write_json(io.join(self.errors_uri, f"{lane[0]}.json"), [type(error).__name__, problems])
                raise
            done += 1
        yield done


def resolve(function: str) -> Callable[..., Any]:
    """The module-level function named `module:name`."""
    module, name = function.split(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def assign_lanes(weights: Sequence[float], lanes: int) -> list[int]:
    """A lane for each task, heaviest first into the lightest lane: at most 4/3 of the best makespan (Graham 1969)."""
    totals = [(0.0, lane) for lane in range(lanes)]  # a heap: 100,000 tasks in as many lanes take 0.3 s
    chosen = [0] * len(weights)
    for index in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        total, lane = totals[0]
        chosen[index] = lane
        heapq.heapreplace(totals, (total + weights[index], lane))
    return chosen


def run_tasks(
    name: str,
    run: str,
    tasks: Sequence[Task],
    function: str,
    context: dict[str, Any],
    runner: RunnerSettings,
    python_heavy: bool,
) -> None:
    """Run `function` (`module:name`) on every task.

    Args:
        tasks: plain data with a `weight`; what each writes is its own business.
        context: plain data handed to every call.

    Raises:
        HeadwaterError: what a task raised, of the type it raised. StageError: a worker died.
    """
    if not tasks:
        return
    errors_uri = io.join(run, "work", "errors", name)
    io.remove_tree(errors_uri)

    def build(pipeline: Any) -> None:
        work = beam.ParDo(_RunLane(function, context, errors_uri)).with_output_types(int)
        hints = resource_hints(name, runner.beam_options)
        tasks_of_lanes = spread_tasks(pipeline, name, run, tasks, runner)
        _ = tasks_of_lanes | name >> (work.with_resource_hints(**hints) if hints else work)

    alone = runner.is_local and len(tasks) == 1
    solo = RunnerSettings(1, runner.beam_options) if alone else runner
    run_pipeline(name, build, solo.pipeline(python_heavy), errors_uri)


def spread_tasks(
    pipeline: Any, name: str, run: str, tasks: Sequence[Task], runner: RunnerSettings, lanes: int | None = None
) -> Any:
    """(lane, task lines) groups.

    Args:
        lanes: how many; default: as many as local workers, or one a task where the runner balances itself.
    """
    tasks_uri = io.join(run, "work", "tasks", f"{name}.jsonl")
    io.write_bytes(tasks_uri, b"".join(json.dumps(task, sort_keys=True).encode() + b"\n" for task in tasks))
    if lanes is None:
        lanes = min(len(tasks), runner.workers) if runner.is_local else len(tasks)
    return (
        pipeline
        | "Start" >> beam.Impulse()
        | "Tasks" >> beam.ParDo(_EmitTasks(tasks_uri, lanes)).with_output_types(tuple[int, bytes])
        | "Lanes" >> beam.GroupByKey()
    )


def run_pipeline(name: str, build: Callable[[Any], None], pipeline: Any, errors_uri: str | None = None) -> None:
    """Build one pipeline and run it to its end.

    Raises:
        HeadwaterError: a task's own error when it left one at `errors_uri`; else StageError.
    """
    run_pipelines(name, [(build, pipeline)], 1, errors_uri)


def run_pipelines(
    name: str, pipelines: Sequence[tuple[Callable[[Any], None], Any]], at_once: int, errors_uri: str | None = None
) -> None:
    """Build pipelines that do not depend on each other and run them, some at a time. Raises as `run_pipeline`."""
    _quiet_logs()
    reuse_memory()
    with _watching_workers(name):
        if min(at_once, len(pipelines)) <= 1:
            for build, pipeline in pipelines:
                _run_to_end(name, build, pipeline, errors_uri)
            return
        with ThreadPoolExecutor(at_once) as pool:
            for done in [pool.submit(_run_to_end, name, *each, errors_uri) for each in pipelines]:
                done.result()


def _run_to_end(name: str, build: Callable[[Any], None], pipeline: Any, errors_uri: str | None) -> None:
    build(pipeline)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except HeadwaterError:
        _raise_reported(errors_uri)  # the same error with its problems; Beam has put both into one line of text
        raise
    except Exception as error:
        _raise_reported(errors_uri)
        raise StageError(Problem("pass-failed", f"pass `{name}` failed: {_last_line(error)}")) from error
    if str(result.state) not in {"DONE", "PipelineState.DONE"}:
        _raise_reported(errors_uri)
        raise StageError(Problem("pass-failed", f"pass `{name}` ended in state {result.state}"))


def _last_line(error: BaseException) -> str:
    """The error's last line, and where it was raised when a worker's traceback says so."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not JAVA_FRAME.match(line)]
    places = [line for line in lines if line.startswith('File "') and "apache_beam" not in line]
    message = lines[-1] if lines else type(error).__name__
    message = next((line.partition(JOB_FAILED)[2] for line in lines if JOB_FAILED in line), message)
    ours = [number for number, line in enumerate(lines) if line.startswith("curation.errors.")]
    if ours:  # a message of several lines
        return "\n".join(lines[ours[-1] :]).partition(": ")[2]
    return f"{message} ({places[-1]})" if places else message


def _raise_reported(errors_uri: str | None) -> None:
    from curation import errors

    if errors_uri is None:
        return
    for uri in io.match(io.join(errors_uri, "*.json")):
        kind, problems = io.read_json(uri)
        raise getattr(errors, kind)(*(Problem(**problem) for problem in problems)) from None


@dataclass
class _watching_workers:  # noqa: N801 – used as a context manager, reads as a phrase
    """Ends the process when a worker process dies: Beam's local runner would wait for it for ever (seen: > 25 s)."""

    name: str
    previous: Any = field(default=None, init=False)

    def __enter__(self) -> None:
        self.previous = threading.excepthook
        threading.excepthook = self._on_thread_error

    def __exit__(self, *_: object) -> None:
        threading.excepthook = self.previous

    def _on_thread_error(self, args: threading.ExceptHookArgs) -> None:
        if "Worker subprocess exited" not in str(args.exc_value):
            self.previous(args)
            return
        problem = Problem(
            "worker-died",
            f"a worker of pass `{self.name}` was killed ({args.exc_value}); out of memory is the usual cause",
            hint="run the same command again: finished shards are not redone; fewer `workers` need less memory",
        )
        os.write(2, f"{problem}\n".encode())
        _kill_children()
        os._exit(StageError.exit_code)


def _kill_children() -> None:
    import signal
    from pathlib import Path

    for task in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in task.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def reuse_memory() -> None:
    """Keep freed memory in the process: a fresh page costs more than what is done with it.

    Arrow's own pool (mimalloc) does so; glibc hands every large array back at once and maps the next one anew, zeroed
    page by page. Measured, 80,000 documents of 2 KB in one thread: 460,000 page faults and 21 s of system time a
    million documents before, 77,000 and 7 s after. Elsewhere than on glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)  # arrays come from the heap, which keeps them
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)  # one heap for all threads: the others are at most 64 MB


def _quiet_logs() -> None:
    # Workers log through the runner a second time as protobuf text dumps, and say at start-up that cloud client
    # libraries are absent; neither tells a user anything.
    for logger in ("apache_beam", "root"):
        logging.getLogger(logger).setLevel(logging.ERROR)
