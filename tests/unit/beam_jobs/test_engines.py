"""What is wrong with a run on Spark or Flink is said before a Java process starts."""

from __future__ import annotations

import json
import logging
import socket
import stat
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from beam_jobs import cluster_worker, engines
from beam_jobs.engines import (
    ANY_VERSION,
    FLINK,
    FOLDER_VARIABLE,
    SPARK,
    Engine,
    check_engine,
    default_options,
    engine_of,
)
from beam_jobs.job_server import JobServer, _not_a_job_message, job_server
from beam_jobs.runners import _last_line
from curation.errors import ConfigError, Problem

BEAM = version("apache-beam")
WEB_PAGE = "a web page does; the page of a master names its address, often of port 7077"
# What Spark 4.0.1 answered to the job server for Spark 3.5.
OTHER_SPARK = (
    "java.io.InvalidClassException: org.apache.spark.rpc.netty.RpcEndpointVerifier$CheckExistence; local class"
)


def jar(path: Path, beam: str = BEAM) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("org/apache/beam/sdk/sdk.properties", f"# comment\nversion={beam}\nsdk_version={beam}\n")
    return path


def script(path: Path, lines: str) -> Path:
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def java(tmp_path: Path) -> Path:
    return script(tmp_path / "java17", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2")


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


class Answer(BaseHTTPRequestHandler):
    """A web page, with what a Flink job manager says of its cluster at /overview."""

    overview: ClassVar[dict[str, object]] = {}

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(json.dumps(self.overview).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def spark(tmp_path: Path, java: Path, *more: str) -> list[str]:
    """Options with nothing wrong in them; what follows wins."""
    return [
        *("--runner=SparkRunner", "--spark_master_url=local[2]", f"--spark_job_server_jar={jar(tmp_path / 'ok.jar')}"),
        *(f"--job_server_java_launcher={java}", *more),
    ]


def problems(arguments: list[str]) -> list[tuple[str, str]]:
    options = PipelineOptions(arguments)
    engine = engine_of(options)
    assert engine is not None
    try:
        check_engine(options, engine)
    except ConfigError as error:
        return [(problem.code, problem.message) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("SparkRunner", SPARK),
        ("spark", SPARK),
        ("apache_beam.runners.portability.spark_runner.SparkRunner", SPARK),
        ("FlinkRunner", FLINK),
        ("DataflowRunner", None),
        ("FnApiRunner", None),
    ],
)
def test_the_engine_is_known_by_every_name_that_beam_accepts(name: str, engine: Engine | None) -> None:
    assert engine_of(PipelineOptions([f"--runner={name}"])) is engine
    assert engine_of(PipelineOptions([])) is None


def test_nothing_is_wrong_with_a_java_a_jar_of_this_beam_and_an_embedded_master(tmp_path: Path, java: Path) -> None:
    assert problems(spark(tmp_path, java)) == []


def test_a_missing_java_an_old_jar_and_a_wrong_master_are_all_named_at_once(tmp_path: Path, java: Path) -> None:
    old = jar(tmp_path / "old.jar", "2.10.0")
    found = problems(
        spark(
            tmp_path,
            java,
            *("--job_server_java_launcher=/nowhere/java", f"--spark_job_server_jar={old}"),
            "--spark_master_url=http://127.0.0.1:7077",
        )
    )

    assert found == [
        ("no-java", "there is no `/nowhere/java` to start Beam's job server with"),
        ("other-job-server", f"`{old}` is of Beam 2.10.0"),
        ("bad-master", "`http://127.0.0.1:7077` is no address of a Spark master"),
    ]


def test_a_java_too_old_for_the_job_server_is_named_with_its_version(tmp_path: Path, java: Path) -> None:
    old = script(tmp_path / "java8", "echo 'java version \"1.8.0_292\"' >&2")

    assert problems(spark(tmp_path, java, f"--job_server_java_launcher={old}")) == [
        ("old-java", f"`{old}` is Java 8"),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "`{}` does not exist"),
        (lambda path: path.write_bytes(b"no archive"), "`{}` is not a job server of Beam"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "`{}` is not a job server of Beam"),
    ],
)
def test_a_jar_that_is_none_is_named(tmp_path: Path, java: Path, make: object, message: str) -> None:
    path = tmp_path / "x.jar"
    make(path)  # type: ignore[operator]

    assert problems(spark(tmp_path, java, f"--spark_job_server_jar={path}")) == [
        ("no-job-server", message.format(path)),
    ]


def test_a_job_server_of_another_version_runs_when_the_user_says_so(tmp_path: Path, java: Path) -> None:
    other = jar(tmp_path / "other.jar", "2.70.0")
    given = spark(tmp_path, java, f"--spark_job_server_jar={other}", f"--experiments={ANY_VERSION}")

    assert problems(given) == []


def test_a_master_where_nothing_listens_is_named_and_one_of_several_suffices(
    tmp_path: Path, java: Path, listening: str, closed: str
) -> None:
    alone = problems(spark(tmp_path, java, f"--spark_master_url=spark://{closed}"))
    both = problems(spark(tmp_path, java, f"--spark_master_url=spark://{closed},{listening}"))

    assert alone == [("no-master", f"no Spark master answers at `spark://{closed}`: Connection refused")]
    assert both == []


def test_a_flink_address_that_is_none_or_does_not_answer_is_named(tmp_path: Path, java: Path, closed: str) -> None:
    common = [
        *("--runner=FlinkRunner", f"--flink_job_server_jar={jar(tmp_path / 'ok.jar')}"),
        f"--job_server_java_launcher={java}",
    ]

    assert problems([*common, "--flink_master=[local]"]) == []
    assert problems([*common, "--flink_master=somewhere"]) == [
        ("bad-master", "`somewhere` is no address of a Flink job manager")
    ]
    assert problems([*common, f"--flink_master={closed}"]) == [
        ("no-master", f"no Flink job manager answers at `{closed}`: Connection refused")
    ]


def test_the_web_page_of_a_master_is_not_taken_for_the_master(tmp_path: Path, java: Path, web: str) -> None:
    assert problems(spark(tmp_path, java, f"--spark_master_url=spark://{web}")) == [
        ("no-master", f"no Spark master answers at `spark://{web}`: {WEB_PAGE}")
    ]


@pytest.mark.parametrize(
    ("overview", "found"),
    [
        ({"slots-total": 4, "flink-version": "1.19.3"}, []),
        ({"slots-total": 4}, []),
        ({"slots-total": 4, "flink-version": "1.20.0"}, ["other-cluster-version"]),
        ({"slots-total": 0, "flink-version": "2.1.0"}, ["other-cluster-version", "no-slots"]),
        ({}, ["no-master"]),
    ],
)
def test_what_a_flink_cluster_says_of_itself_is_compared_with_the_options(
    tmp_path: Path, java: Path, web: str, overview: dict[str, object], found: list[str]
) -> None:
    Answer.overview = overview
    given = [
        *("--runner=FlinkRunner", f"--flink_job_server_jar={jar(tmp_path / 'ok.jar')}", "--flink_version=1.19"),
        *(f"--job_server_java_launcher={java}", f"--flink_master={web}"),
    ]

    assert [code for code, _ in problems(given)] == found


@pytest.mark.parametrize("runner", ["--runner=SparkRunner", "--runner=FlinkRunner"])
def test_a_run_is_not_written_into_one_jar(tmp_path: Path, java: Path, runner: str) -> None:
    given = spark(tmp_path, java, runner, f"--flink_job_server_jar={jar(tmp_path / 'f.jar')}")

    assert problems([*given, f"--output_executable_path={tmp_path / 'run.jar'}"]) == [
        ("one-jar", "a run is several pipelines, and what each has to do is known when the one before it has ended")
    ]


def test_a_command_that_starts_no_worker_is_found_out_by_asking_it_for_help(tmp_path: Path, java: Path) -> None:
    def said(command: Path) -> list[tuple[str, str]]:
        config = f'--environment_config={{"command": "{command}"}}'
        return problems(spark(tmp_path, java, "--environment_type=PROCESS", config))

    lost = script(tmp_path / "lost", "echo 'Traceback (most recent call last):' >&2; echo 'E: none' >&2; exit 1")
    mute = script(tmp_path / "mute", "exit 3")
    boot = script(tmp_path / "boot", "echo '  -provision_endpoint string' >&2; exit 2")

    assert said(lost) == [("no-worker", f"`{lost}` starts no worker: E: none")]
    assert said(mute) == [("no-worker", f"`{mute}` starts no worker: it ends with 3 and says nothing")]
    assert said(boot) == []


def test_a_worker_command_that_only_the_nodes_have_is_left_to_them(
    tmp_path: Path, java: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "refusal", lambda address: None)
    monkeypatch.setattr(engines, "_web_page", lambda address: None)
    config = '--environment_config={"command": "/opt/venv/bin/headwater-worker"}'
    given = spark(tmp_path, java, "--environment_type=PROCESS", config)

    assert problems([*given, "--spark_master_url=spark://elsewhere:7077"]) == []
    assert problems([*given, "--spark_master_url=spark://127.0.0.1:7077"]) == [
        ("no-worker", "`/opt/venv/bin/headwater-worker` is not an executable file here")
    ]


def test_workers_that_cannot_be_started_are_named(tmp_path: Path, java: Path) -> None:
    config = '{"command": "/nowhere/headwater-worker"}'
    process = ["--environment_type=PROCESS", "--environment_config"]

    assert problems(spark(tmp_path, java, *process, config)) == [
        ("no-worker", "`/nowhere/headwater-worker` is not an executable file here")
    ]
    assert problems(spark(tmp_path, java, *process, "python")) == [("bad-worker", "`python` names no command")]
    assert problems(spark(tmp_path, java, "--environment_type=DOCKER")) == [
        ("no-image", "workers in containers need an image that holds this package")
    ]


def test_a_remote_master_gets_worker_processes_that_stand_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    added = default_options(PipelineOptions(["--runner=SparkRunner", "--spark_master_url=spark://a:7077"]), SPARK)

    portable = PipelineOptions(added).view_as(PortableOptions)
    assert portable.environment_type == "PROCESS"
    assert json.loads(portable.environment_config) == {
        "command": str(Path(sys.executable).with_name("headwater-worker")),
        "env": {FOLDER_VARIABLE: str(tmp_path)},
    }
    assert int(portable.environment_cache_millis) == engines.KEEP_WORKERS_MS


def test_what_the_user_says_of_workers_stands(tmp_path: Path) -> None:
    given = ["--environment_type=DOCKER", "--environment_config=image:1", "--environment_cache_millis=5"]
    added = default_options(PipelineOptions(["--runner=FlinkRunner", "--flink_master=a:8081", *given]), FLINK)

    assert added == []
    assert "--environment_type=LOOPBACK" in default_options(PipelineOptions(["--runner=FlinkRunner"]), FLINK)


def test_other_runners_and_a_job_server_of_the_users_are_left_alone() -> None:
    for given in (("--runner=DataflowRunner",), ("--runner=SparkRunner", "--job_endpoint=host:8099"), ()):
        with job_server(given) as options:
            assert options == given


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("ModuleNotFoundError: No module named 'beam_jobs'", "worker-without-package"),
        ('java.io.IOException: Cannot run program "/opt/headwater-worker"', "no-worker"),
        ("java.lang.IllegalStateException: Process died with exit code 1", "worker-died"),
        (OTHER_SPARK, "other-cluster-version"),
        ("Reason: All masters are unresponsive! Giving up.", "no-master"),
        ("Application has been killed. Reason: Master removed our application: FAILED", "no-executors"),
        ("something nobody has seen", "pass-failed"),
    ],
)
def test_what_an_engine_says_is_put_into_words(line: str, code: str) -> None:
    server = JobServer("Spark", [])
    server.lines.append(line)

    assert server.explained(Problem("pass-failed", "pass `measure` failed: job failed")).code == code
    assert server.explained(Problem("cannot-write", "cannot write `x`: full")).code == "cannot-write"


def test_what_nobody_has_seen_is_kept_in_a_file_that_the_hint_names(tmp_path: Path) -> None:
    server = JobServer("Spark", [])
    server.lines.extend(["first", "something nobody has seen"])
    known = Problem("no-executors", "the Spark cluster gave up")

    hint = server.with_log(Problem("pass-failed", "pass `measure` failed")).hint

    assert hint is not None
    log = Path(hint.rpartition(" ")[2])
    assert log.read_text(encoding="utf-8") == "first\nsomething nobody has seen\n"
    log.unlink()
    assert server.with_log(known) == known


def test_the_stack_of_a_failed_job_is_not_logged_beside_the_error_that_holds_it() -> None:
    def record(path: str) -> logging.LogRecord:
        return logging.LogRecord("root", logging.ERROR, path, 1, "java.lang.Error\n\tat a.B.c(B.java:1)", None, None)

    assert not _not_a_job_message(record("/x/apache_beam/runners/portability/portable_runner.py"))
    assert _not_a_job_message(record("/x/anything_else.py"))


def test_the_cause_is_read_out_of_a_java_stack_trace() -> None:
    text = (
        "Pipeline job-1 failed in state FAILED: java.lang.IllegalStateException: Process died with exit code 1\n"
        "\tat org.apache.beam.runners.fnexecution.environment.ProcessManager.check(ProcessManager.java:70)\n"
        "\tat java.base/java.lang.Thread.run(Thread.java:840)\n"
    )

    assert _last_line(RuntimeError(text)) == "java.lang.IllegalStateException: Process died with exit code 1"


def test_a_worker_stands_where_the_driver_stood_when_the_node_has_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    cluster_worker.enter_folder({FOLDER_VARIABLE: str(tmp_path / "absent")})
    assert Path.cwd() == Path("/")

    cluster_worker.enter_folder({FOLDER_VARIABLE: str(tmp_path)})
    assert Path.cwd() == tmp_path
