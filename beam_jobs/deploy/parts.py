"""The parts of a local Spark or Flink: the engine's distribution and Beam's job server, found or got by package name.

    python -m beam_jobs.deploy.parts spark        get what is missing
    python -m beam_jobs.deploy.parts hdfs         the same of a local HDFS, whose client jars are Spark's
    python -m beam_jobs.deploy.parts --show       say what is at hand

Kept in ~/.cache/headwater (or $XDG_CACHE_HOME/headwater), so that a fresh checkout finds them again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from beam_jobs.engines import ANY_VERSION
from curation.errors import HeadwaterError, Problem, StageError

POM = Path(__file__).with_name("job_servers") / "pom.xml"
# HDFS's servers in one jar, for the tests; of the version whose client Spark 3.5.0 carries.
HDFS_VERSION = "3.3.4"
HDFS_ARTIFACT = "org.apache.hadoop:hadoop-client-minicluster"
HDFS_JAR = Path.home().joinpath(
    ".m2/repository/org/apache/hadoop/hadoop-client-minicluster",
    HDFS_VERSION,
    f"hadoop-client-minicluster-{HDFS_VERSION}.jar",
)
# The newest version whose parts can be joined from the runners' own artifacts; `pom.xml` names the same.
ASSEMBLED = "2.70.0"


@dataclass(frozen=True)
class Parts:
    """One engine: the PyPI package that carries its distribution, and Beam's job server for it."""

    name: str
    requirement: str  # the distribution, as PyPI calls it; Spark 3.5 and Flink 1.19 are what the job servers speak
    module: str  # folder of the distribution below site-packages
    artifact: str  # of the job server, in group org.apache.beam

    @property
    def home(self) -> Path:
        """Where the distribution lies: `jars/` and `bin/` of Spark, `lib/` of Flink."""
        return cache() / self.requirement / self.module

    @property
    def official(self) -> Path:
        """The published job server of the installed Beam in Maven's local store."""
        beam = version("apache-beam")
        folder = Path.home() / ".m2/repository/org/apache/beam" / self.artifact / beam
        return folder / f"{self.artifact}-{beam}.jar"

    @property
    def assembled(self) -> Path:
        return cache() / f"{self.artifact.removeprefix('beam-runners-')}-{ASSEMBLED}.jar"

    @property
    def jar(self) -> Path | None:
        """The job server at hand, the published one first."""
        return next((path for path in (self.official, self.assembled) if path.is_file()), None)

    @property
    def options(self) -> list[str]:
        """Beam options that name the job server at hand, and let it pass when it is of another version."""
        other = [] if self.jar == self.official else [f"--experiments={ANY_VERSION}"]
        return [f"--{self.name}_job_server_jar={self.jar}", *other]

    def missing(self) -> str | None:
        """Why no local cluster can be started, in words; None when it can."""
        java = shutil.which("java")
        if java is None:
            return "there is no `java`"
        if not self.home.is_dir():
            return f"{self.requirement} is not at hand: `make {self.name}-parts` gets it"
        if self.jar is None:
            return f"Beam's job server for {self.name} is not at hand: `make {self.name}-parts` gets or assembles it"
        return None


SPARK = Parts("spark", "pyspark==3.5.0", "pyspark", "beam-runners-spark-3-job-server")
FLINK = Parts("flink", "apache-flink-libraries==1.19.3", "pyflink", "beam-runners-flink-1.19-job-server")
ENGINES = {parts.name: parts for parts in (SPARK, FLINK)}


def cache() -> Path:
    """The folder of the parts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater"


def get(parts: Parts) -> None:
    """Get what is missing of an engine; minutes and up to 700 MB the first time.

    Raises:
        StageError: a package client is absent or refuses.
    """
    if not parts.home.is_dir():
        target = cache() / f"{parts.requirement}.part"
        shutil.rmtree(target, ignore_errors=True)
        # --no-deps: the distribution is Java; what its Python half needs stays away.
        _call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), parts.requirement)
        target.rename(parts.home.parent)
    if parts.jar is None:
        coordinates = f"org.apache.beam:{parts.artifact}:{version('apache-beam')}"
        fetched = _try("mvn", "-B", "-q", "dependency:get", f"-Dartifact={coordinates}", "-Dtransitive=false")
        if not fetched:
            print(f"{coordinates} is not to be had: assembling version {ASSEMBLED}", file=sys.stderr)
            _assemble(parts)


def get_hdfs() -> None:
    """Get what a local HDFS needs. Raises StageError as `get`."""
    get(SPARK)
    if not HDFS_JAR.is_file():
        coordinates = f"{HDFS_ARTIFACT}:{HDFS_VERSION}"
        _call("mvn", "-B", "-q", "dependency:get", f"-Dartifact={coordinates}", "-Dtransitive=false")


def _assemble(parts: Parts) -> None:
    folder = cache() / "assembling"
    name = parts.assembled.stem.removesuffix(f"-{ASSEMBLED}")
    _call(
        *("mvn", "-B", "-q", "-f", str(POM), f"-P{parts.name}", "package"),
        *(f"-Djar.name={name}", f"-Djar.folder={folder}", f"-Dbeam.version={ASSEMBLED}"),
    )
    (folder / parts.assembled.name).rename(parts.assembled)
    shutil.rmtree(folder, ignore_errors=True)


def _try(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


def _call(*command: str) -> None:
    if shutil.which(command[0]) is None:
        problem = Problem("no-command", f"there is no `{command[0]}`", None, None, "Debian: apt-get install maven")
        raise StageError(problem)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in said if "ERROR" in line] or said or ["it said nothing"]
        raise StageError(Problem("cannot-get", f"`{' '.join(command)}` failed: {errors[0][:300]}"))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.deploy.parts", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("part", nargs="?", choices=[*sorted(ENGINES), "hdfs"])
    parser.add_argument("--show", action="store_true", help="say what is at hand and stop")
    args = parser.parse_args()
    try:
        for name, parts in ENGINES.items():
            if args.part in (None, name):
                if not args.show:
                    get(parts)
                print(f"{name}: {parts.missing() or f'{parts.home}, {parts.jar}'}")
        if args.part == "hdfs":
            if not args.show:
                get_hdfs()
            print(f"hdfs: {HDFS_JAR if HDFS_JAR.is_file() else 'not at hand'}")
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
