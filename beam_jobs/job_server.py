"""Beam's job server for one run: a Java process that dies with us, and what its lines say when something fails."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from apache_beam.options import pipeline_options as beam_options
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.engines import (
    WORKER_COMMAND,
    check_engine,
    default_options,
    engine_of,
    job_server_command,
    refusal,
)
from curation.errors import Problem, StageError

START_TIMEOUT_S = 300.0


@contextlib.contextmanager
def job_server(given: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The options the pipelines of a run get: as given, or with the address of a job server that lives in this block.

    Raises:
        ConfigError: everything that can be known to be wrong beforehand. StageError: the job server does not start.
    """
    options = PipelineOptions(list(given))
    engine = engine_of(options)
    if engine is None or options.view_as(beam_options.PortableOptions).job_endpoint:
        yield tuple(given)
        return
    completed = [*given, *default_options(options, engine)]
    options = PipelineOptions(completed)
    check_engine(options, engine)
    server = JobServer(engine.name, job_server_command(options, engine))
    try:
        endpoint = server.start()
        with _quiet_hang_ups():
            yield (*completed, f"--job_endpoint={endpoint}")
    except StageError as error:
        problems = [server.explained(problem) for problem in error.problems]
        raise StageError(*(server.with_log(problem) for problem in problems)) from error
    finally:
        server.stop()


@contextlib.contextmanager
def _quiet_hang_ups() -> Iterator[None]:
    """Workers inside this process (LOOPBACK) print a stack trace for every executor that says goodbye; and Beam logs
    the stack of a failed job beside raising it."""
    loggers = [logging.getLogger(f"apache_beam.runners.worker.{name}") for name in ("data_plane", "sdk_worker")]
    root = logging.getLogger()
    levels = [logger.level for logger in loggers]
    hook = threading.excepthook

    def report(args: threading.ExceptHookArgs) -> None:
        if not re.search("Multiplexer hanging up|StatusCode.(CANCELLED|UNAVAILABLE)", str(args.exc_value)):
            hook(args)

    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    threading.excepthook = report
    root.addFilter(_not_a_job_message)
    try:
        yield
    finally:
        root.removeFilter(_not_a_job_message)
        threading.excepthook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _not_a_job_message(record: logging.LogRecord) -> bool:
    """Beam logs the Java stack of a failed job and then raises an error that holds it: once is enough."""
    return record.module != "portable_runner"


@dataclass
class JobServer:
    """The Java process; what it says is kept to explain failures."""

    engine: str
    command: list[str]
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=2000))
    process: subprocess.Popen[str] | None = None
    told: bool = False

    def start(self) -> str:
        """host:port once it answers. Raises StageError when it ends or stays silent."""
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent
        )
        threading.Thread(target=self._read, daemon=True).start()
        port = self.command[self.command.index("--job-port") + 1]
        deadline = time.monotonic() + START_TIMEOUT_S
        while refusal(f"localhost:{port}") is not None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                message = f"Beam's job server for {self.engine} did not start: {self._last_error()}"
                raise StageError(Problem("job-server-failed", message, " ".join(self.command)))
            time.sleep(0.1)
        return f"localhost:{port}"

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if "has not accepted any resources" in line and not self.told:
                self.told = True
                print(
                    "the Spark cluster gives this run no executor: it has no free cores or too little memory a worker; "
                    "waiting",
                    file=sys.stderr,
                )

    def _last_error(self) -> str:
        said = [line for line in self.lines if re.search("ERROR|Exception|Error:", line) and "\tat " not in line]
        return (said or list(self.lines) or ["it said nothing"])[-1]

    def explained(self, problem: Problem) -> Problem:
        """`problem` in words when the job server's own lines tell its cause."""
        if problem.code != "pass-failed":
            return problem
        text = "\n".join([problem.message, *self.lines])
        for pattern, known in KNOWN_FAILURES:
            if re.search(pattern, text):
                return replace(known, message=f"{known.message} ({problem.message[:300]})", where=problem.where)
        return problem

    def with_log(self, problem: Problem) -> Problem:
        """A failure that nothing here explains: what the job server said is kept in a file that the hint names."""
        if problem.code != "pass-failed":
            return problem
        handle, path = tempfile.mkstemp(prefix="headwater-job-server-", suffix=".log")
        with open(handle, "w", encoding="utf-8") as log:
            log.writelines(f"{line}\n" for line in self.lines)
        return replace(problem, hint=f"the last {len(self.lines):,} lines of Beam's job server are in {path}")

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# What the engine says → what it means and what to do.
KNOWN_FAILURES = (
    (
        r"No module named '(beam_jobs|curation|classifiers)|ModuleNotFoundError",
        Problem(
            "worker-without-package",
            "a worker lacks a Python package that the passes need",
            hint="install the same version of this package, with the same extras, on every node or into the image",
        ),
    ),
    (
        r"Cannot run program|error=2, No such file",
        Problem(
            "no-worker",
            "a node cannot start the worker command",
            hint=f"install the package at the same place on every node: it brings `{WORKER_COMMAND}`",
        ),
    ),
    (
        r"Process died with exit code|process exited with code",
        Problem(
            "worker-died",
            "worker processes on a node end as soon as they start",
            hint="run the command of --environment_config by hand on a node: is the package installed there?",
        ),
    ),
    (
        r"serialVersionUID|InvalidClassException|ClassCastException: cannot assign instance of",
        Problem(
            "other-cluster-version",
            "the cluster runs another version of the engine than the job server was built for",
            hint="Spark 3.5 for the job server `spark-3`; for Flink the version that --flink_version names",
        ),
    ),
    (
        r"Master removed our application|stopped SparkContext",
        Problem(
            "no-executors",
            "the Spark cluster gave up on this run: its executors could not be started or died",
            hint="the logs of the Spark workers say why",
        ),
    ),
    (
        r"All masters are unresponsive|Could not connect to spark://",
        Problem(
            "no-master",
            "the Spark master stopped answering",
            hint="start it, then run the same command again: finished shards are not redone",
        ),
    ),
)


def die_with_parent() -> None:
    """Linux: a killed driver must leave no job server behind that keeps the cluster busy for nobody."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, linux/prctl.h
