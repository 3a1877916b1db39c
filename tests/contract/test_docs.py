"""What the documentation says exists: links, anchors, commands, settings files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from curation.config import KINDS
from curation.ruleset import load_ruleset, shipped_rulesets
from curation.settings import parse

REPO = Path(__file__).resolve().parents[2]
SKIPPED = {".venv", ".git", "runs", "build", ".pytest_cache", "node_modules"}
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
FOLDERS = ("curation", "curation/filters", "curation/sources", "curation/lexicon", "beam_jobs", "classifiers")
FOLDERS += ("beam_jobs/deploy", "examples", "benchmarks", "tests", "docs/reference")


def pages(pattern: str) -> list[str]:
    found = (path.relative_to(REPO) for path in REPO.rglob(pattern))
    return sorted(path.as_posix() for path in found if not SKIPPED & set(path.parts))


MARKDOWN = pages("*.md")
YAML = [path for path in pages("*.yaml") if path.startswith(("examples/", "curation/rulesets/"))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosting sites derive them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_link_resolves(page: str) -> None:
    text = FENCE.sub("", (REPO / page).read_text(encoding="utf-8"))
    broken = []
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (REPO / page).parent / path if path else REPO / page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_opens_with_a_readme(folder: str) -> None:
    text = (REPO / folder / "README.md").read_text(encoding="utf-8")

    assert text.startswith("# ")


@pytest.mark.parametrize("path", YAML)
def test_every_settings_file_is_a_ruleset_or_a_job_that_would_run(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from beam_jobs.config import CurateJob

    monkeypatch.chdir(REPO)  # paths in a job are relative to where the command is started
    data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if "rules" in data:
        assert load_ruleset(path).name == Path(path).stem
    elif data["kind"] == "curate":
        job = parse(CurateJob, data, path, "this job")
        assert [load_ruleset(arm).name for arm in job.arms]
    elif data["kind"] == "preregistration":
        pytest.importorskip("torch", reason="needs the extra `train`")
        from alignment.preregistration import read_preregistration

        assert read_preregistration(Path(path)).endpoints
    elif data["kind"] == "experiment":
        pytest.importorskip("torch", reason="needs the extra `train`")
        from alignment.config import load_experiment

        assert load_experiment(path).stages
    else:
        assert data["kind"] in KINDS  # the other kinds are checked beside the code that reads them


@pytest.mark.parametrize("name", shipped_rulesets())
def test_every_shipped_ruleset_resolves_and_is_called_as_its_file(name: str) -> None:
    assert load_ruleset(name).name == name


def make_targets() -> set[str]:
    rules = re.findall(r"^([a-z][a-z -]*):", (REPO / "Makefile").read_text(encoding="utf-8"), re.M)
    return {target for rule in rules for target in rule.split()}


def shown_commands(page: str) -> list[str]:
    """The lines of a page's shell blocks that begin with a prompt."""
    blocks = FENCE.findall((REPO / page).read_text(encoding="utf-8"))
    lines = [line for language, body in blocks if language in {"sh", "console"} for line in body.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_make_target_that_is_shown_exists(page: str) -> None:
    shown = {word for line in shown_commands(page) for word in re.findall(r"\bmake ([a-z-]+)", line)}
    shown |= set(re.findall(r"`make ([a-z-]+)`", (REPO / page).read_text(encoding="utf-8")))

    assert shown <= make_targets()


def test_the_readme_shows_how_to_begin() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"make (?:demo|test)", (REPO / "README.md").read_text()))


def test_continuous_integration_runs_make_test_after_getting_the_clusters() -> None:
    script = REPO / ".ci" / "run"
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if not line.startswith(("#", "set "))]

    assert script.stat().st_mode & 0o111
    assert commands == ['cd "$(dirname "$0")/.."', "exec make ci"]
    said = subprocess.run(["make", "-n", "ci"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    steps = ["beam_jobs.deploy.parts spark", "beam_jobs.deploy.parts flink", "ruff check", "mypy", "-m pytest"]
    assert [step for line in said.splitlines() for step in steps if step in line and "uv pip" not in line] == steps


def test_every_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(project["optional-dependencies"][extra] for extra in ("dev",))]
    names = [
        re.split(r"[\[<>=!~; ]", item)[0].lower()
        for part in wanted
        for item in ([part] if isinstance(part, str) else part)
    ]
    pins = dict(
        line.lower().split("==")
        for line in (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )

    assert [name for name in names if name not in pins] == []
    assert pins["torch"] == "2.13.0"


def test_make_without_a_target_lists_what_a_newcomer_types() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    shown = subprocess.run(["make", "-s"], cwd=REPO, env=plain, capture_output=True, text=True, check=True).stdout

    assert [line.split()[1] for line in shown.splitlines()] == ["demo", "experiment-smoke", "test"]
