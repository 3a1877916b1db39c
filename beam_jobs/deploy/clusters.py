"""Small real clusters on the loopback address: to try a job on, and for the tests.

A Spark standalone cluster of one master and two workers, a Flink session cluster of one job manager and two task
managers. Each process is a JVM with the engine's own main class; they end with the block.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from beam_jobs.deploy.parts import FLINK, SPARK
from beam_jobs.job_server import die_with_parent
from curation.errors import Problem, StageError

START_TIMEOUT_S = 300.0  # a starved machine; an idle one takes 10
HOST = "127.0.0.1"
# Processes that live for minutes: compiling twice and collecting in parallel cost more than they save.
SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# What Java 17 hides and Flink reaches into: `env.java.opts.all` of the configuration that Flink 1.19 ships with.
FLINK_OPENS = tuple(
    flag
    for names, kind in (
        (("java.base/sun.net.util", "java.rmi/sun.rmi.registry", "java.security.jgss/sun.security.krb5"), "exports"),
        (
            tuple(
                f"java.base/{package}"
                for package in (
                    *("java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text"),
                    *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
                    "java.util.concurrent.locks",
                )
            ),
            "opens",
        ),
    )
    for flag in (f"--add-{kind}={name}=ALL-UNNAMED" for name in names)
)


@dataclass
class LocalCluster:
    """Processes that start with the block and are gone after it."""

    name: ClassVar[str]  # of the engine
    folder: Path  # logs, working folders, configuration
    workers: int = 2
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self) -> None:
        raise NotImplementedError

    @property
    def options(self) -> list[str]:
        """Beam options of a run on this cluster."""
        raise NotImplementedError

    @property
    def nodes(self) -> list[str]:
        """Names of the processes that do the work: all but the first, which directs them."""
        return list(self.processes)[1:]

    def kill(self, name: str) -> None:
        """End one process at once, as a lost node would."""
        self.processes[name].kill()
        self.processes[name].wait()

    def _run(self, name: str, command: list[str], **variables: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
                preexec_fn=die_with_parent,
            )

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready():
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                reason = f"{dead[0]} ended, see {self.folder / dead[0]}.log" if dead else "nothing answered in time"
                raise StageError(Problem("cluster-failed", f"{what} did not start: {reason}"))
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _json(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError):
        return {}


class SparkCluster(LocalCluster):
    """One master, `workers` workers of one core each."""

    name = "spark"
    url = ""
    page = ""  # of the master

    def _start(self) -> None:
        port, page = free_port(), free_port()
        self.url, self.page = f"spark://{HOST}:{port}", f"{HOST}:{page}"
        variables = {
            "SPARK_LOCAL_IP": HOST,
            "SPARK_LOCAL_DIRS": str(self.folder),
            "SPARK_HOME": str(SPARK.home),
            "SPARK_SCALA_VERSION": "2.12",
        }

        def command(kind: str, *arguments: str) -> list[str]:
            classpath = str(SPARK.home / "jars" / "*")
            return [
                "java",
                "-Xmx512m",
                *SHORT_LIVED,
                "-cp",
                classpath,
                f"org.apache.spark.deploy.{kind}",
                "--host",
                HOST,
                *arguments,
            ]

        master = command("master.Master", "--port", str(port), "--webui-port", str(page))
        self._run("master", master, **variables)
        self._wait(lambda: bool(_json(f"http://{self.page}/json/")), "the Spark master")
        for number in range(1, self.workers + 1):
            room = ["--cores", "1", "--memory", "1g", "--work-dir", str(self.folder / f"worker-{number}")]
            worker = command("worker.Worker", "--webui-port", str(free_port()), *room, self.url)
            self._run(f"worker-{number}", worker, **variables)
        self._wait(lambda: _json(f"http://{self.page}/json/").get("aliveworkers") == self.workers, "the Spark workers")

    @property
    def options(self) -> list[str]:
        """Beam options of a run on this cluster; the driver, too, stays on the loopback address."""
        properties = [f"-Dspark.driver.host={HOST}", f"-Dspark.driver.bindAddress={HOST}", "-Dspark.ui.enabled=false"]
        properties += [f"-Dspark.executor.extraJavaOptions={' '.join(SHORT_LIVED)}", *SHORT_LIVED]
        return [
            *("--runner=SparkRunner", f"--spark_master_url={self.url}", *SPARK.options),
            *(f"--job_server_jvm_properties={flag}" for flag in properties),
        ]


class FlinkCluster(LocalCluster):
    """One job manager, `workers` task managers of two slots each."""

    name = "flink"
    url = ""  # of the REST interface, which is what --flink_master names
    rpc = ""  # where task managers look for the job manager

    def _start(self) -> None:
        self.url, self.rpc = f"{HOST}:{free_port()}", f"{HOST}:{free_port()}"
        memory = {
            "task.heap.size": "384m",
            "task.off-heap.size": "0m",
            "managed.size": "256m",
            "network.min": "64m",
            "network.max": "64m",
            "framework.heap.size": "128m",
            "framework.off-heap.size": "128m",
            "jvm-metaspace.size": "256m",
            "jvm-overhead.min": "192m",
            "jvm-overhead.max": "192m",
        }
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": self.rpc.rsplit(":", 1)[1],
            "jobmanager.bind-host": HOST,
            "jobmanager.memory.process.size": "1024m",
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": self.url.rsplit(":", 1)[1],
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.cpu.cores": "1.0",
            # Twice what a run uses, so that one task manager can take over from the other.
            "taskmanager.numberOfTaskSlots": 2,
            "cluster.evenly-spread-out-slots": "true",
            # A lost task manager is noticed in seconds, and its tasks start again where there is a slot.
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 10000,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 10,
            "restart-strategy.fixed-delay.delay": "2 s",
            "io.tmp.dirs": str(self.folder),
            "blob.storage.directory": str(self.folder),
            **{f"taskmanager.memory.{key}": value for key, value in memory.items()},
        }
        configuration = self.folder / "conf"
        configuration.mkdir(exist_ok=True)
        lines = "".join(f"{key}: {value}\n" for key, value in settings.items())
        (configuration / "config.yaml").write_text(lines, encoding="utf-8")
        (configuration / "log4j.properties").write_text(LOG4J, encoding="utf-8")

        def command(heap: str, kind: str) -> list[str]:
            logs = f"-Dlog4j.configurationFile={configuration / 'log4j.properties'}"
            java = ["java", heap, *SHORT_LIVED, *FLINK_OPENS, logs, "-cp", str(FLINK.home / "lib" / "*")]
            return [*java, f"org.apache.flink.runtime.{kind}", "--configDir", str(configuration)]

        self._run("job-manager", command("-Xmx448m", "entrypoint.StandaloneSessionClusterEntrypoint"))
        self._wait(lambda: bool(_json(f"http://{self.url}/overview")), "the Flink job manager")
        for number in range(1, self.workers + 1):
            self._run(f"task-manager-{number}", command("-Xmx512m", "taskexecutor.TaskManagerRunner"))
        self._wait(
            lambda: _json(f"http://{self.url}/overview").get("taskmanagers") == self.workers, "the Flink task managers"
        )

    @property
    def options(self) -> list[str]:
        """Beam options of a run on this cluster."""
        return [
            *("--runner=FlinkRunner", f"--flink_master={self.url}", "--flink_version=1.19"),
            *(f"--parallelism={self.workers}", *FLINK.options),
            *(f"--job_server_jvm_properties={flag}" for flag in SHORT_LIVED),
        ]


CLUSTERS: dict[str, type[SparkCluster | FlinkCluster]] = {kind.name: kind for kind in (SparkCluster, FlinkCluster)}

LOG4J = """rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %-5p %c{1} %m%n
"""
