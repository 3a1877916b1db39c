"""`plan` names the runner that `curate` would use, and why."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.commands import curate_arguments, plan_arguments, run_curate, run_plan
from beam_jobs.runner_choice import LOCAL_S, PRISM_S, RunnerChoice, choose_runner
from beam_jobs.runners import RunnerSettings
from curation.errors import ConfigError

REPO = Path(__file__).resolve().parents[3]
LOCAL = "this machine, 2 workers under a watchdog: a dead worker ends the run within seconds"


def test_without_options_beams_local_runner_is_used_because_prism_was_no_faster() -> None:
    assert choose_runner([], 2) == RunnerChoice(
        "FnApiRunner",
        LOCAL,
        "no runner is named after `--`; Prism writes the same bytes and took 13.0 s where this took 12.4 s, so it is "
        "used only when named",
    )


def test_the_numbers_in_the_reason_are_those_of_the_documentation() -> None:
    page = (REPO / "docs/howto/runners.md").read_text(encoding="utf-8")

    assert f"the sample corpus took {PRISM_S:.1f} s, Beam's local runner {LOCAL_S:.1f} s" in " ".join(page.split())


@pytest.mark.parametrize(
    ("given", "name", "where", "why"),
    [
        (["--experiments=x"], "FnApiRunner", LOCAL, "Beam options are given, none of them a runner"),
        (["--runner=FnApiRunner"], "FnApiRunner", LOCAL, "named after `--`"),
        (["--runner=fnapi"], "FnApiRunner", LOCAL, "named after `--`"),
        (
            ["--runner=PrismRunner", "--prism_location=/opt/prism"],
            "PrismRunner",
            "this machine, /opt/prism",
            "named after `--`; without it FnApiRunner would run: the same bytes, 12.4 s against 13.0 s",
        ),
        (
            ["--runner=prism"],
            "PrismRunner",
            "this machine, a binary that Beam fetches",
            "named after `--`; without it FnApiRunner would run: the same bytes, 12.4 s against 13.0 s",
        ),
        (
            ["--runner", "SparkRunner", "--spark_master_url=spark://host:7077"],
            "SparkRunner",
            "Spark at spark://host:7077, through Beam's job server",
            "named after `--`",
        ),
        (
            ["--runner=SparkRunner", "--job_endpoint=host:8099"],
            "SparkRunner",
            "the engine behind the job server at host:8099",
            "named after `--`",
        ),
        (
            ["--runner=FlinkRunner", "--flink_master=host:8081", "--flink_version=1.19"],
            "FlinkRunner",
            "Flink 1.19 at host:8081, through Beam's job server",
            "named after `--`",
        ),
        (
            ["--runner=DataflowRunner", "--region=europe-west1"],
            "DataflowRunner",
            "Dataflow, no project, europe-west1; each pass is a job",
            "named after `--`",
        ),
        (
            ["--runner=PortableRunner", "--job_endpoint=host:8099"],
            "PortableRunner",
            "the job server at host:8099",
            "named after `--`",
        ),
        (
            ["--runner=DirectRunner"],
            "DirectRunner",
            "this machine",
            "named after `--`; it looks for Prism on the network first: FnApiRunner, the default, does not",
        ),
        (
            ["--runner=my.own.Runner"],
            "my.own.Runner",
            "where its own options say",
            "named after `--`: a class outside of Beam",
        ),
    ],
)
def test_a_runner_named_after_the_dashes_is_the_one(given: list[str], name: str, where: str, why: str) -> None:
    assert choose_runner(given, 2) == RunnerChoice(name, where, why)


def test_what_is_named_is_what_runs() -> None:
    """The passes decide by the same choice how they run."""
    for given, local in (
        ((), True),
        (("--runner=fnapi",), True),
        (("--runner=prism",), False),
        (("--runner=x.Y",), False),
    ):
        assert RunnerSettings(2, given).is_local is local


def job_file(folder: Path) -> Path:
    (folder / "a.jsonl").write_text(json.dumps({"id": "1", "text": "One text."}) + "\n", encoding="utf-8")
    job = folder / "job.yaml"
    job.write_text(f"kind: curate\ninput: [{folder}/a.jsonl]\noutput: {folder}/runs\narms: [raw]\nworkers: 2\n")
    return job


def planned(folder: Path, capsys: pytest.CaptureFixture[str], beam_options: list[str], *more: str) -> str:
    parser = argparse.ArgumentParser(prog="headwater plan")
    plan_arguments(parser)
    args = parser.parse_args([str(job_file(folder)), *more])
    args.beam_options = beam_options
    assert run_plan(args) == 0
    return capsys.readouterr().out


def test_plan_prints_the_runner_and_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = planned(tmp_path, capsys, []).splitlines()

    reason = choose_runner([], 2).why
    assert lines[1:3] == [f"runner       FnApiRunner: {LOCAL}", f"             because {reason}"]
    assert lines[3].startswith("inputs       1 files")


def test_plan_says_what_would_stop_the_run_without_failing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--runner=SparkRunner", "--spark_master_url=host"]
    found: dict[str, Any] = json.loads(planned(tmp_path, capsys, given, "--json"))

    assert found["runner"] == {
        "name": "SparkRunner",
        "where": "Spark at host, through Beam's job server",
        "why": "named after `--`",
    }
    assert [p for p in found["would_stop_at"] if "is no address of a Spark master" in p]
    assert "would stop: error[bad-master]: `host` is no address of a Spark master" in planned(tmp_path, capsys, given)


@pytest.mark.parametrize("run", [run_plan, run_curate])
def test_a_runner_that_beam_does_not_have_is_refused_before_inputs_are_read(run: Any, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    curate_arguments(parser)
    args = parser.parse_args([str(tmp_path / "nothing.yaml")])
    args.beam_options = ["--runner=SparkRuner"]

    with pytest.raises(ConfigError) as caught:
        run(args)

    (problem,) = caught.value.problems
    assert (problem.code, problem.hint) == ("unknown-runner", "did you mean `SparkRunner`?")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--max_num_workers", "argument --max_num_workers: expected one argument"),
        ("--max_num_workers=many", "argument --max_num_workers: invalid int value: 'many'"),
        ("--flink_version=7", "argument --flink_version: invalid choice: '7' (choose from"),
    ],
)
def test_an_option_without_a_value_or_with_a_wrong_one_is_one_message(
    option: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beam prints the usage of all its options, some hundred lines, and ends the process."""
    with pytest.raises(ConfigError) as caught:
        choose_runner([option], 2)

    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("bad-value", "after `--`")
    assert problem.message.startswith(f"Beam cannot read its options: {said}")
    assert capsys.readouterr() == ("", "")


def test_a_plan_for_this_machine_does_not_import_beam(tmp_path: Path) -> None:
    code = (
        "import sys; from curation.cli import main\n"
        f"assert main(['plan', {str(job_file(tmp_path))!r}]) == 0\n"
        "assert not [name for name in sys.modules if name.startswith('apache_beam')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPO)

    assert done.returncode == 0, done.stderr
