"""Runs on Spark and Flink: what they need is found, completed and checked before work starts.

Beam's own runner classes learn of a missing Java, a wrong address or an absent package from stack traces, minutes
later. Here each of these is one error at the start.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from apache_beam.options import pipeline_options as beam_options
from apache_beam.options.pipeline_options import PipelineOptions

from curation.errors import ConfigError, Problem

OLDEST_JAVA = 11  # what the job servers of Beam 2.70 to 2.77 are compiled for
# `--experiments=` of this name lets a job server of another Beam version pass.
ANY_VERSION = "other_job_server_version"
# Beam ends a worker process after every task unless told to keep it: models would be loaded again each time. Kept, it
# is replaced at this age (4 s of loading: 3 %), and on Spark it outlives its pass by as much: at ten minutes, the
# workers of all passes of a short run stood side by side.
KEEP_WORKERS_MS = 120_000
# One Spark application for all passes of a run. Beam calls the property a test's; without it each of the seven
# pipelines of the sample job asks the cluster for executors anew (measured: 4 min 17 s, with it 1 min 25 s).
REUSE_SPARK = "-Dbeam.spark.test.reuseSparkContext=true"
CONNECT_TIMEOUT_S = 5.0
HELP_TIMEOUT_S = 60.0  # a first import of Beam from a cold disk
WEB_PAGE_TIMEOUT_S = 2.0  # a web server that was just reached answers at once
# Where the folder is named in which a worker process has to stand, so that the job's relative paths hold there too.
FOLDER_VARIABLE = "HEADWATER_FOLDER"
WORKER_COMMAND = "headwater-worker"


@dataclass(frozen=True)
class Engine:
    """An engine behind a job server: how Beam's options, its jar and its addresses are called."""

    name: str
    artifact: str  # of the job server, in group org.apache.beam
    jar_option: str
    master_option: str
    jvm_properties: tuple[str, ...] = ()

    def runs_inside(self, master: str) -> bool:
        """Whether `master` asks for an engine inside the job server itself."""
        return master in {"[auto]", "[local]"} or master.startswith("local")


SPARK = Engine("Spark", "beam-runners-spark-3-job-server", "spark_job_server_jar", "spark_master_url", (REUSE_SPARK,))
FLINK = Engine("Flink", "beam-runners-flink-{}-job-server", "flink_job_server_jar", "flink_master")


def engine_of(options: PipelineOptions) -> Engine | None:
    """Spark or Flink when the options name its runner."""
    name = (options.view_as(beam_options.StandardOptions).runner or "").rsplit(".", 1)[-1].lower()
    return {"spark": SPARK, "flink": FLINK}.get(name.removesuffix("runner"))


def default_options(options: PipelineOptions, engine: Engine) -> list[str]:
    """What a run needs and the user did not say: where workers run, how many of them stay, the job server's flags."""
    portable = options.view_as(beam_options.PortableOptions)
    master = _get(options, engine.master_option)
    found = [f"--job_server_jvm_properties={flag}" for flag in engine.jvm_properties]
    kind = portable.environment_type
    if kind is None and not portable.environment_config:
        kind = "LOOPBACK" if engine.runs_inside(master) else "PROCESS"
        found.append(f"--environment_type={kind}")
    if kind == "PROCESS" and not portable.environment_config:
        payload = {
            "command": default_worker(),
            "env": {FOLDER_VARIABLE: os.getcwd()},
        }
        found.append(f"--environment_config={json.dumps(payload)}")
    if not portable.environment_cache_millis:
        found.append(f"--environment_cache_millis={KEEP_WORKERS_MS}")
    return found


def check_engine(options: PipelineOptions, engine: Engine) -> None:
    """Everything that can be known before a Java process starts.

    Raises:
        ConfigError: with all problems found.
    """
    problems = [
        *_one_jar_problems(options),
        *_java_problems(options),
        *_jar_problems(options, engine),
        *_master_problems(options, engine),
        *_worker_problems(options, engine),
    ]
    if problems:
        raise ConfigError(*problems)


def _get(options: PipelineOptions, name: str) -> Any:
    return options.get_all_options()[name]


def _one_jar_problems(options: PipelineOptions) -> list[Problem]:
    """A jar holds one pipeline whose plan is known when it is written; of a run only the first is."""
    if not options.view_as(beam_options.PortableOptions).output_executable_path:
        return []
    return [
        Problem(
            "one-jar",
            "a run is several pipelines, and what each has to do is known when the one before it has ended",
            "--output_executable_path",
            "no such option: a jar holds one pipeline",
            "the command itself submits them one after the other: start it where the cluster can be reached",
        )
    ]


def _java_problems(options: PipelineOptions) -> list[Problem]:
    launcher = options.view_as(beam_options.JobServerOptions).job_server_java_launcher
    hint = "install one (Debian: openjdk-17-jre-headless) or name it: --job_server_java_launcher=/path/to/java"
    wanted = f"Java {OLDEST_JAVA} or newer; Spark 3.5 and Flink 1.19 know 11 and 17"
    if shutil.which(launcher) is None:
        return [Problem("no-java", f"there is no `{launcher}` to start Beam's job server with", None, wanted, hint)]
    said = subprocess.run([launcher, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if not found or int(found[1]) < OLDEST_JAVA:
        shown = found[1] if found else said.strip().partition("\n")[0]
        return [Problem("old-java", f"`{launcher}` is Java {shown}", None, wanted, hint)]
    return []


def jar_at_hand(options: PipelineOptions, engine: Engine) -> str | None:
    """Path or URL of the job server: as named, else of the installed Beam in Maven's or Beam's own store; or None."""
    named = _get(options, engine.jar_option)
    if named:
        return str(named)
    artifact, beam = artifact_of(options, engine), version("apache-beam")
    name = f"{artifact}-{beam}.jar"
    stores = [
        Path.home() / ".m2/repository/org/apache/beam" / artifact / beam / name,
        Path(options.view_as(beam_options.JobServerOptions).jar_cache_dir or Path.home() / ".apache_beam/cache/jars")
        / name,
    ]
    return next((str(path) for path in stores if path.is_file()), None)


def artifact_of(options: PipelineOptions, engine: Engine) -> str:
    return engine.artifact.format(_get(options, "flink_version"))


def _jar_problems(options: PipelineOptions, engine: Engine) -> list[Problem]:
    jar = jar_at_hand(options, engine)
    if jar is None or "://" in jar:
        return []  # Beam fetches it
    flag = f"--{engine.jar_option}"
    try:
        found = job_server_version(jar)
    except FileNotFoundError:
        return [Problem("no-job-server", f"`{jar}` does not exist", flag, "a jar, or a URL with its scheme")]
    except (zipfile.BadZipFile, KeyError):
        return [Problem("no-job-server", f"`{jar}` is not a job server of Beam", flag, artifact_of(options, engine))]
    allowed = ANY_VERSION in (options.view_as(beam_options.DebugOptions).experiments or [])
    beam = version("apache-beam")
    if found != beam and not allowed:
        return [
            Problem(
                "other-job-server",
                f"`{jar}` is of Beam {found}",
                flag,
                f"{beam}, the installed Beam",
                f"--experiments={ANY_VERSION} runs it all the same; docs/howto/spark.md says what was tried",
            )
        ]
    return []


def job_server_version(jar: str) -> str:
    """The Beam version a jar was built from. Raises KeyError where it holds no Beam."""
    with zipfile.ZipFile(jar) as archive:
        said = archive.read("org/apache/beam/sdk/sdk.properties").decode()
    found = re.search(r"^version=(\S+)$", said, re.MULTILINE)
    if found is None:
        raise KeyError("version")
    return found[1]


def _master_problems(options: PipelineOptions, engine: Engine) -> list[Problem]:
    master = _get(options, engine.master_option)
    if engine.runs_inside(master):
        return []
    if engine is SPARK:
        return _spark_problems(master)
    return _flink_problems(master, str(_get(options, "flink_version")))


def _spark_problems(master: str) -> list[Problem]:
    flag = "--spark_master_url"
    if master == "yarn" or master.startswith(("k8s://", "mesos://")):
        return []  # the cluster's own configuration says where it is
    found = re.fullmatch(r"spark://([\w.-]+:\d+(?:,[\w.-]+:\d+)*)", master)
    if not found:
        wanted = "local[N], spark://HOST:PORT (several masters: spark://A:7077,B:7077), yarn or k8s://..."
        return [Problem("bad-master", f"`{master}` is no address of a Spark master", flag, wanted)]
    reasons = [refusal(address) or _web_page(address) for address in found[1].split(",")]
    if None in reasons:
        return []
    return [Problem("no-master", f"no Spark master answers at `{master}`: {reasons[0]}", flag, "a running master")]


def _web_page(address: str) -> str | None:
    """Says so when a web server answers: a master's own page is the address that is easily taken for the master's."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=WEB_PAGE_TIMEOUT_S)
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return None  # Spark's own protocol: it drops the connection or waits for more
    finally:
        connection.close()
    return "a web page does; the page of a master names its address, often of port 7077"


def refusal(address: str) -> str | None:
    """Why nothing listens at HOST:PORT; None when something does."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _flink_problems(master: str, wanted: str) -> list[Problem]:
    flag = "--flink_master"
    address = re.sub("^https?://", "", master)
    if not re.fullmatch(r"[\w.-]+:\d+", address):
        return [Problem("bad-master", f"`{master}` is no address of a Flink job manager", flag, "HOST:PORT, [local]")]
    url = master if master.startswith("http") else f"http://{master}"
    try:
        with urllib.request.urlopen(f"{url}/overview", timeout=CONNECT_TIMEOUT_S) as answer:
            overview = json.load(answer)
        slots, running = overview["slots-total"], str(overview.get("flink-version", wanted))
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(getattr(error, "reason", None), "strerror", None) or str(error)
        message = f"no Flink job manager answers at `{master}`: {reason}"
        return [Problem("no-master", message, flag, "the REST address of a running job manager")]
    problems = []
    if running.split(".")[:2] != wanted.split("."):
        message = f"the cluster at `{master}` is Flink {running}"
        expected = f"Flink {wanted}, for which the job server is built"
        hint = f"--flink_version={'.'.join(running.split('.')[:2])}, if Beam has a job server for it"
        problems.append(Problem("other-cluster-version", message, "--flink_version", expected, hint))
    if not slots:
        problems.append(
            Problem("no-slots", f"the Flink cluster at `{master}` has no task manager", flag, "one at least")
        )
    return problems


def _worker_problems(options: PipelineOptions, engine: Engine) -> list[Problem]:
    portable = options.view_as(beam_options.PortableOptions)
    kind, config = portable.environment_type, portable.environment_config
    flag = "--environment_config"
    if kind == "DOCKER" and not config:
        message, hint = "workers in containers need an image that holds this package", "beam_jobs/deploy/Dockerfile"
        return [Problem("no-image", message, flag, "IMAGE", f"build one from {hint}")]
    if kind != "PROCESS":
        return []
    command = _command_of(config)
    if command is None:
        return [Problem("bad-worker", f"`{config}` names no command", flag, 'JSON: {"command": "/path"}')]
    expected = "the command that starts a worker, at the same place on every node"
    hint = f"install the package there: it brings `{WORKER_COMMAND}`"
    if shutil.which(command) is None:
        master = _get(options, engine.master_option)
        if not engine.runs_inside(master) and not _is_here(master):
            return []  # the nodes may have it: one that has not says so
        return [Problem("no-worker", f"`{command}` is not an executable file here", flag, expected, hint)]
    if command == default_worker():
        return []
    said = _starts_no_worker(command)
    return [Problem("no-worker", f"`{command}` starts no worker: {said}", flag, expected, hint)] if said else []


def default_worker() -> str:
    """The worker command that was installed with this interpreter."""
    return str(Path(sys.executable).with_name(WORKER_COMMAND))


def _is_here(master: str) -> bool:
    """Whether the cluster's address is one of this machine, so that its nodes are most likely this machine too."""
    hosts = {socket.gethostname(), socket.getfqdn(), "localhost"}
    named = re.findall(r"([\w.-]+):\d+", re.sub(r"^\w+://", "", master))
    return any(host in hosts or host.startswith("127.") for host in named)


def _starts_no_worker(command: str) -> str | None:
    """What a command says that, asked for help, does not name the option every worker command takes."""
    try:
        done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=HELP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stdout + done.stderr
    if "provision_endpoint" in said:
        return None
    lines = [line for line in said.splitlines() if line.strip()]
    telling = lines[-1 if "Traceback" in said else 0].strip()[:200] if lines else ""
    return telling or f"it ends with {done.returncode} and says nothing"


def _command_of(config: str | None) -> str | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(config or "")["command"])
    return None


def job_server_command(options: PipelineOptions, engine: Engine) -> list[str]:
    """The command line Beam itself would start its job server with, the jar fetched when it is nowhere at hand."""
    if engine is SPARK:
        from apache_beam.runners.portability.spark_runner import SparkJarJobServer as Server
    else:
        from apache_beam.runners.portability.flink_runner import FlinkJarJobServer as Server
        from apache_beam.runners.portability.flink_runner import FlinkRunner

        flink = options.view_as(beam_options.FlinkRunnerOptions)
        flink.flink_master = FlinkRunner.add_http_scheme(flink.flink_master)
    jar = jar_at_hand(options, engine)
    server = Server(options)
    if jar is not None:
        server._jar = jar
    try:
        command, _ = server.subprocess_cmd_and_endpoint()
    except Exception as error:  # whatever the download raises
        artifact = artifact_of(options, engine)
        raise ConfigError(
            Problem(
                "no-job-server",
                f"Beam's job server for {engine.name} is not at hand and cannot be fetched: {str(error)[:200]}",
                f"--{engine.jar_option}",
                f"org.apache.beam:{artifact}:{version('apache-beam')} in Maven's local store, or a path",
                f"`make {engine.name.lower()}-demo` gets or assembles one",
            )
        ) from error
    return [str(part) for part in command]
