"""Runs on Dataflow: what is checked before anything is submitted, and which pass asks for larger machines."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options as beam_options
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.transforms.resources import parse_resource_hints

from beam_jobs.io import is_local
from curation.errors import ConfigError, Problem, did_you_mean


class ScoreOptions(PipelineOptions):  # type: ignore[misc]
    """Right fitting: every pass is a job of its own, and only `score` loads models."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--score_min_ram", help="memory of a worker of the score pass, as 16GB")
        parser.add_argument(
            "--score_accelerator",
            help="GPU of a worker of the score pass: type:nvidia-l4;count:1;install-nvidia-driver",
        )


def resource_hints(name: str, given: Sequence[str]) -> dict[str, str]:
    """Beam's resource hints for the workers of pass `name`; none but for `score`."""
    if name != "score":
        return {}
    options = PipelineOptions(list(given)).view_as(ScoreOptions)
    hints = {"min_ram": options.score_min_ram, "accelerator": options.score_accelerator}
    return {key: value for key, value in hints.items() if value}


def check_hints(given: Sequence[str]) -> None:
    """The hints of the score pass, before the passes that come first have run for hours.

    Raises:
        ConfigError: a hint that Beam cannot read, or one beside an option that excludes it.
    """
    hints = resource_hints("score", given)
    problems = []
    for name, value in hints.items():
        try:
            parse_resource_hints({name: value})
        except ValueError:
            wanted = "an amount with its unit, as 16GB"
            problems.append(Problem("bad-value", f"`{value}` is no amount of memory", f"--score_{name}", wanted))
    cloud = PipelineOptions(list(given)).view_as(beam_options.GoogleCloudOptions)
    if hints and cloud.flexrs_goal:
        message = f"FlexRS gives machines as they come: `--score_{min(hints)}` cannot be kept"
        problems.append(Problem("contradiction", message, "--flexrs_goal", "one of the two"))
    if problems:
        raise ConfigError(*problems)


def is_dataflow(given: Sequence[str]) -> bool:
    runner = PipelineOptions(list(given)).view_as(beam_options.StandardOptions).runner or ""
    return runner.rsplit(".", 1)[-1].lower().removesuffix("runner") == "dataflow"


def check_dataflow(given: Sequence[str], run: str, inputs: Sequence[str]) -> None:
    """Everything that can be known before the first job is submitted; for other runners only `check_hints`.

    Raises:
        ConfigError: with all problems found.
    """
    check_hints(given)
    if not is_dataflow(given):
        return
    problems = [
        *_unknown_options(given),
        *_place_problems(run, inputs),
        *_option_problems(PipelineOptions(list(given))),
    ]
    problems = problems or _invalid_values(PipelineOptions(list(given)))
    if importlib.util.find_spec("apitools") is None:
        problems.append(
            Problem("no-gcp", "Beam's Google Cloud half is not installed", None, None, "pip install 'headwater[gcp]'")
        )
    elif not problems:
        problems = _credential_problems(PipelineOptions(list(given)))
    if problems:
        raise ConfigError(*problems)


def _unknown_options(given: Sequence[str]) -> list[Problem]:
    """Beam drops what it does not know without a word, and the job then runs with a default."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in [PipelineOptions, *_subclasses(PipelineOptions)]:
        options._add_argparse_args(parser)
    known = sorted(name for action in parser._actions for name in action.option_strings)
    _, unknown = parser.parse_known_args(list(given))
    flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
    return [
        Problem("unknown-option", f"Beam knows no option `{flag}`", "after `--`", None, did_you_mean(flag, known))
        for flag in flags
    ]


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    return [found for child in kind.__subclasses__() for found in (child, *_subclasses(child))]


def _place_problems(run: str, inputs: Sequence[str]) -> list[Problem]:
    local = [uri for uri in (run, *inputs) if is_local(uri)]
    if not local:
        return []
    more = f" and {len(local) - 1} more" if len(local) > 1 else ""
    message = f"`{local[0]}`{more} lies on this machine, where no worker of Dataflow sees it"
    return [Problem("local-path", message, "output, input", "gs://BUCKET/...")]


def _option_problems(options: PipelineOptions) -> list[Problem]:
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    image = options.view_as(beam_options.WorkerOptions).sdk_container_image
    wanted = {
        "--project": (cloud.project, "the project that pays"),
        "--region": (cloud.region, "a region, as europe-west1"),
        "--temp_location": (cloud.temp_location, "gs://BUCKET/..."),
        "--sdk_container_image": (image, "the image of beam_jobs/deploy/Dockerfile: workers need this package"),
    }
    return [
        Problem("missing-option", f"Dataflow needs {flag}", "after `--`", expected)
        for flag, (value, expected) in wanted.items()
        if not value
    ]


def _invalid_values(options: PipelineOptions) -> list[Problem]:
    """What Dataflow's own rules for names and paths object to; Beam applies them when the first job is submitted.

    Rule by rule: all of them at once would also ask the network about buckets.
    """
    rules = PipelineOptionsValidator(options, None)
    cloud, worker = options.view_as(beam_options.GoogleCloudOptions), options.view_as(beam_options.WorkerOptions)
    said = [*rules.validate_cloud_options(cloud), *rules.validate_num_workers(worker)]
    said += rules.validate_worker_region_zone(worker)
    for name in ("temp_location", "staging_location"):
        said += rules.validate_gcs_path(cloud, name) if getattr(cloud, name) else []
    return [Problem("bad-value", " ".join(str(text).split()), "after `--`") for text in said]


def _credential_problems(options: PipelineOptions) -> list[Problem]:
    if options.view_as(beam_options.GoogleCloudOptions).no_auth:
        return []
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        google.auth.default()
    except GoogleAuthError as error:
        hint = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=key.json"
        message = f"there are no Google credentials: {str(error).partition('.')[0]}"
        return [Problem("no-credentials", message, None, None, hint)]
    return []
