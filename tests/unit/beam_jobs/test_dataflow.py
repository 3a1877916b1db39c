"""Everything about Dataflow that can be known without an account."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import beam_jobs.deploy
from beam_jobs import runners
from beam_jobs.bands import IndexShard, band_edges
from beam_jobs.config import CurateJob
from beam_jobs.context import RunContext, load_arms
from beam_jobs.dataflow import check_dataflow, resource_hints
from beam_jobs.deploy.flex_launcher import command_line
from beam_jobs.runners import RunnerSettings, run_tasks
from curation.errors import ConfigError
from curation.settings import parse

DEPLOY = Path(beam_jobs.deploy.__file__).parent
DATAFLOW_PAGE = DEPLOY.parents[1] / "docs/howto/dataflow.md"
OPTIONS = [
    *("--runner=DataflowRunner", "--project=a-project-123", "--region=europe-west1", "--no_auth", "--dry_run=True"),
    *("--temp_location=gs://a-bucket-123/temp", "--staging_location=gs://a-bucket-123/staging"),
    *("--sdk_container_image=europe-docker.pkg.dev/a-project-123/images/headwater:1", "--sdk_location=container"),
]
# Dataflow refuses a job request above 10 MB.
MOST_BYTES = 10_000_000


def problems(given: list[str], run: str = "gs://b/run", inputs: tuple[str, ...] = ("gs://b/a.jsonl",)) -> list[str]:
    try:
        check_dataflow(given, run, inputs)
    except ConfigError as error:
        return [str(problem) for problem in error.problems if problem.code != "no-gcp"]
    return []


def test_the_options_of_the_how_to_page_are_complete() -> None:
    assert problems(OPTIONS) == []
    assert problems(["--runner=SparkRunner"], "runs/x", ("a.jsonl",)) == []


def test_a_misspelt_option_is_not_dropped_without_a_word() -> None:
    (problem,) = problems([*OPTIONS, "--max_num_wokers=5"])

    assert "Beam knows no option `--max_num_wokers`" in problem
    assert "--max_num_workers" in problem


def test_what_dataflow_needs_is_named_at_once() -> None:
    found = problems(["--runner=DataflowRunner", "--no_auth"], "runs/x", ("a.jsonl", "gs://b/c.jsonl"))

    assert [re.sub(r"\n.*", "", problem, flags=re.DOTALL) for problem in found] == [
        "error[local-path]: `runs/x` and 1 more lies on this machine, where no worker of Dataflow sees it",
        "error[missing-option]: Dataflow needs --project",
        "error[missing-option]: Dataflow needs --region",
        "error[missing-option]: Dataflow needs --temp_location",
        "error[missing-option]: Dataflow needs --sdk_container_image",
    ]


def test_only_the_score_pass_asks_for_a_larger_machine() -> None:
    given = ["--score_min_ram=16GB", "--score_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"]

    assert resource_hints("measure", given) == {}
    assert resource_hints("score", []) == {}
    assert resource_hints("score", given) == {
        "min_ram": "16GB",
        "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver",
    }


def test_every_option_of_the_how_to_page_is_one_that_is_known() -> None:
    page = DATAFLOW_PAGE.read_text(encoding="utf-8")
    shown = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)((?:=[^\s`']+|='[^']+')?)", _headwater_part(page)))
    known = set(PipelineOptions([]).get_all_options())

    assert len(shown) > 10
    assert {name for name, _ in shown} - known <= {"set", "build-arg"}, "ours, and docker's"
    given = [f"--{name}{value}".replace("'", "") for name, value in sorted(shown) if value and name in known]
    given = [re.sub(r"[A-Z]{4,}", "a-name-123", option) for option in given if "flexrs" not in option]
    assert problems([*OPTIONS, *given]) == []


def _headwater_part(page: str) -> str:
    """The page without the commands of other programs: gcloud, docker."""
    return "\n".join(
        line for line in re.sub(r"\\\n\s*", " ", page).splitlines() if not re.match(r"gcloud|docker", line)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--score_min_ram=lots", "error[bad-value]: `lots` is no amount of memory"),
        ("--score_min_ram=16", "error[bad-value]: `16` is no amount of memory"),
        ("--score_min_ram=16GiB", None),
        ("--score_min_ram=16GB", None),
        ("--flexrs_goal=COST_OPTIMIZED", None),
    ],
)
def test_a_hint_that_cannot_be_read_is_refused_before_the_passes_that_come_first(given: str, expected: str) -> None:
    for runner in (OPTIONS, ["--runner=SparkRunner"]):
        found = problems([*runner, given])

        assert [problem.splitlines()[0] for problem in found] == ([expected] if expected else [])


def test_hints_and_flexrs_exclude_each_other() -> None:
    (problem,) = problems([*OPTIONS, "--score_min_ram=16GB", "--flexrs_goal=COST_OPTIMIZED"])

    assert problem.startswith(
        "error[contradiction]: FlexRS gives machines as they come: `--score_min_ram` cannot be kept"
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--project=P", "Invalid Project ID (P)"),
        ("--temp_location=bucket/temp", "Invalid GCS path (bucket/temp), given for the option: temp_location"),
        ("--staging_location=gs://b", "Invalid GCS bucket (gs://b), given for the option: staging_location"),
        ("--job_name=With_Capitals", "Invalid job_name (With_Capitals)"),
        ("--max_num_workers=0", "Invalid value (0) for option: max_num_workers"),
    ],
)
def test_a_value_that_dataflow_would_refuse_is_refused_here(option: str, said: str) -> None:
    found = problems([*OPTIONS, option])

    assert len(found) == 1
    assert found[0].startswith(f"error[bad-value]: {said}")


def translated(monkeypatch: pytest.MonkeyPatch, start: Callable[[RunnerSettings], None], *more: str) -> Any:
    """The runner after DataflowRunner's own translation of the pipeline that `start` runs."""
    pytest.importorskip("apitools", reason="the extra `gcp` is not installed: `make cloud-test` runs this")
    found: list[Any] = []

    def capture(_: str, build: Any, pipeline: Any, *__: object) -> None:
        build(pipeline)
        pipeline.run()
        found.append(pipeline.runner)

    monkeypatch.setattr(runners, "_run_to_end", capture)
    monkeypatch.setattr("apache_beam.runners.portability.stager.Stager.stage_job_resources", lambda *_, **__: [])
    start(RunnerSettings(2, (*OPTIONS, *more)))
    (only,) = found
    return only


def pass_over(monkeypatch: pytest.MonkeyPatch, run: Path, name: str, count: int, *more: str) -> Any:
    """One pass of tasks over `count` input files."""
    tasks = [{"shard": i, "uri": f"gs://a-bucket-123/in/part-{i:06d}.jsonl.zst", "weight": 1} for i in range(count)]

    def start(runner: RunnerSettings) -> None:
        run_tasks(name, str(run), tasks, "module:function", {}, runner, True)

    return translated(monkeypatch, start, *more)


def bands_over(monkeypatch: pytest.MonkeyPatch, run: Path, _: str, count: int) -> Any:
    """The shuffle of the hashes of `count` input files."""
    plain = {"kind": "curate", "input": ["x"], "output": "o", "arms": ["dedup_only"]}
    job = parse(CurateJob, plain, "job", "this job")
    shards = [IndexShard(i, f"gs://a-bucket-123/index-{i}", "", 10_000, False) for i in range(count)]
    context = RunContext(str(run), job, load_arms(job))
    return translated(monkeypatch, lambda runner: band_edges(context, shards, runner))


@pytest.mark.parametrize(("make", "name"), [(pass_over, "measure"), (pass_over, "decide"), (bands_over, "bands")])
def test_the_job_over_a_hundred_thousand_files_is_as_small_as_that_over_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Any], name: str
) -> None:
    one = make(monkeypatch, tmp_path / "one", name, 1)
    many = make(monkeypatch, tmp_path / "many", name, 100_000)

    sizes = [runner.proto_pipeline.ByteSize() for runner in (one, many)]
    # The paths differ by a byte, and a digit of the number of lanes or partitions may: nothing grows with the files.
    assert abs(sizes[0] - sizes[1]) < 64
    assert sizes[1] < MOST_BYTES / 100


def test_the_hints_reach_the_score_step_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hint = "type:nvidia-l4;count:1;install-nvidia-driver"
    runner = pass_over(monkeypatch, tmp_path, "score", 3, "--score_min_ram=16GB", f"--score_accelerator={hint}")

    proto = runner.proto_pipeline
    hinted = {
        step.unique_name
        for step in proto.components.transforms.values()
        if proto.components.environments[step.environment_id].resource_hints
    }
    assert {name.partition("/")[0] for name in hinted} == {"score"}
    (hints,) = {
        tuple(sorted(environment.resource_hints.items()))
        for environment in proto.components.environments.values()
        if environment.resource_hints
    }
    assert dict(hints) == {
        "beam:resources:accelerator:v1": hint.encode(),
        "beam:resources:min_ram_bytes:v1": b"16000000000",
    }


def test_one_step_only_loads_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two would be fused into one worker and hold each model twice."""
    proto = pass_over(monkeypatch, tmp_path, "score", 3).proto_pipeline

    steps = [step for step in proto.components.transforms.values() if step.spec.urn == "beam:transform:pardo:v1"]
    assert sorted(step.unique_name for step in steps) == ["Tasks", "score"]  # `Tasks` lists the shards


def test_the_template_of_the_launcher_names_parameters_that_the_command_takes(tmp_path: Path) -> None:
    template = json.loads((DEPLOY / "flex_template.json").read_text(encoding="utf-8"))
    names = [parameter["name"] for parameter in template["parameters"]]
    job = tmp_path / "job.yaml"

    line = command_line([f"--job={job}", "--set=split_mb=64;workers=2", "--score_min_ram=16GB", "--region=x"])

    assert line == [
        *("curate", str(job), "--set", "split_mb=64", "--set", "workers=2"),
        *("--", "--runner=DataflowRunner", "--score_min_ram=16GB", "--region=x"),
    ]
    known = PipelineOptions([]).get_all_options()
    assert set(names) - {"job", "set"} <= set(known)


def test_the_image_is_of_the_beam_that_is_installed() -> None:
    said = re.search(r"^ARG BEAM=(\S+)$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    assert said is not None
    assert said[1] == beam.__version__
