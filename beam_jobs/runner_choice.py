"""Which runner a command will use, and why: what `plan` says before anything runs.

Nothing here imports Beam unless options for Beam were given: a plan for this machine takes a second, not three.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

from curation.errors import ConfigError, HeadwaterError, Problem, unknown_name

# Beam's own local runner, by name: `DirectRunner` first looks on the network for another runner's binary.
LOCAL_RUNNER = "FnApiRunner"
# One run each of the sample corpus on two cores; docs/howto/runners.md has the commands.
PRISM_S, LOCAL_S = 13.0, 12.4
NAMED = "named after `--`"


@dataclass(frozen=True)
class RunnerChoice:
    """The runner of a command: its class in Beam, where it works, why it and no other."""

    name: str
    where: str
    why: str

    def plain(self) -> dict[str, str]:
        return asdict(self)


def choose_runner(given: Sequence[str], workers: int) -> RunnerChoice:
    """The runner for these Beam options.

    Args:
        given: what follows `--` on the command line. workers: of this machine, used by the local runner alone.

    Raises:
        ConfigError: Beam has no runner of that name.
    """
    if not given:
        return _local(
            workers,
            "no runner is named after `--`; Prism writes the same bytes and took "
            f"{PRISM_S:.1f} s where this took {LOCAL_S:.1f} s, so it is used only when named",
        )
    from apache_beam.options.pipeline_options import StandardOptions

    options = parsed(given)
    asked = options.view_as(StandardOptions).runner
    if asked is None:
        return _local(workers, "Beam options are given, none of them a runner")
    if "." in asked:
        return RunnerChoice(asked, "where its own options say", f"{NAMED}: a class outside of Beam")
    known = {name.lower(): name for name in StandardOptions.KNOWN_RUNNER_NAMES}
    name = known.get(asked.lower()) or known.get(f"{asked.lower()}runner")
    if name is None:
        raise ConfigError(unknown_name("runner", asked, known.values(), "after `--`: --runner"))
    if name == LOCAL_RUNNER:
        return _local(workers, NAMED)
    return RunnerChoice(name, _where(name, options.get_all_options()), _why(name))


def parsed(given: Sequence[str]) -> Any:
    """Beam's `PipelineOptions` of these words.

    Raises:
        ConfigError: a value that is missing or not of its option's type; Beam itself would print all options it has.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(list(given))
    said = StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options.get_all_options()
    except SystemExit:
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise ConfigError(Problem("bad-value", f"Beam cannot read its options: {reason}", "after `--`")) from None
    return options


def _local(workers: int, why: str) -> RunnerChoice:
    noun = "worker" if workers == 1 else "workers"
    where = f"this machine, {workers} {noun} under a watchdog: a dead worker ends the run within seconds"
    return RunnerChoice(LOCAL_RUNNER, where, why)


def _where(name: str, options: dict[str, Any]) -> str:
    endpoint = options.get("job_endpoint")
    if name in {"SparkRunner", "FlinkRunner"} and endpoint:
        return f"the engine behind the job server at {endpoint}"
    if name == "SparkRunner":
        return f"Spark at {options['spark_master_url']}, through Beam's job server"
    if name == "FlinkRunner":
        return f"Flink {options['flink_version']} at {options['flink_master']}, through Beam's job server"
    if name == "DataflowRunner":
        place = [options.get("project") or "no project", options.get("region") or "no region"]
        return f"Dataflow, {', '.join(place)}; each pass is a job"
    if name == "PrismRunner":
        return f"this machine, {options.get('prism_location') or 'a binary that Beam fetches'}"
    if name == "PortableRunner":
        return f"the job server at {endpoint or 'no --job_endpoint'}"
    return "this machine"


def _why(name: str) -> str:
    if name == "PrismRunner":
        return f"{NAMED}; without it {LOCAL_RUNNER} would run: the same bytes, {LOCAL_S:.1f} s against {PRISM_S:.1f} s"
    if name in {"DirectRunner", "SwitchingDirectRunner"}:
        return f"{NAMED}; it looks for Prism on the network first: {LOCAL_RUNNER}, the default, does not"
    return NAMED


def refusals(given: Sequence[str], run: str, inputs: Sequence[str]) -> list[str]:
    """What `curate` with these options would stop at before any work, one text a problem."""
    if not given:
        return []
    from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

    from beam_jobs.dataflow import check_dataflow
    from beam_jobs.engines import check_engine, default_options, engine_of

    options = PipelineOptions(list(given))
    engine = engine_of(options)
    try:
        check_dataflow(given, run, inputs)
        if engine is not None and not options.view_as(PortableOptions).job_endpoint:
            check_engine(PipelineOptions([*given, *default_options(options, engine)]), engine)
    except HeadwaterError as error:
        return [str(problem) for problem in error.problems]
    return []
