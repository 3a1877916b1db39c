"""What was promised before training: hashed, unchanged, free of contradictions and of tests nothing could pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from simulated_run import BITS, TOXICITY, bits, endpoint, plan_data, toxicity, write_run

from alignment.compare import compare_run
from alignment.preregistration import FILE, HASH, read_preregistration, register, registered, sha256_of
from curation.errors import ConfigError, DataContractError


def written(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**plan_data(), **changes}), encoding="utf-8")
    return path


def test_the_file_and_its_hash_lie_in_the_run_before_training(tmp_path: Path) -> None:
    source, run = written(tmp_path / "plan.yaml"), tmp_path / "run"

    digest = register(source, run)

    assert (run / FILE).read_bytes() == source.read_bytes()
    assert (run / HASH).read_text() == f"{sha256_of(source)}  {FILE}\n"  # what `sha256sum -c` reads
    assert registered(run, source) == (read_preregistration(source), digest)
    assert register(source, run) == digest


def test_another_file_is_not_registered_over_the_first(tmp_path: Path) -> None:
    register(written(tmp_path / "plan.yaml"), tmp_path / "run")

    with pytest.raises(ConfigError, match="another one was registered"):
        register(written(tmp_path / "plan.yaml", alpha=0.1), tmp_path / "run")


def test_nothing_is_registered_once_training_has_begun(tmp_path: Path) -> None:
    begun = tmp_path / "run" / "raw" / "1" / "pretrain"
    begun.mkdir(parents=True)
    (begun / "fingerprint").write_text("0\n")

    with pytest.raises(ConfigError, match="training has begun without a preregistration"):
        register(written(tmp_path / "plan.yaml"), tmp_path / "run")


@pytest.mark.parametrize("what", ["the registered file", "the given file", "a comment"])
def test_compare_refuses_when_the_hash_differs(what: str, tmp_path: Path) -> None:
    source = write_run(tmp_path / "run", [toxicity(-0.5), bits()])
    target = source if what == "the given file" else tmp_path / "run" / FILE
    more = b"# after the fact\n" if what == "a comment" else b"alpha: 0.2\n"
    target.write_bytes(target.read_bytes() + more)

    with pytest.raises(DataContractError, match="not the file that was hashed before training"):
        compare_run(tmp_path / "run", source)
    assert not (tmp_path / "run" / "compare.json").exists()


def test_compare_refuses_a_run_without_a_preregistration(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [toxicity(-0.5), bits()])
    (tmp_path / "run" / HASH).unlink()

    with pytest.raises(DataContractError, match="nothing was registered before training"):
        compare_run(tmp_path / "run")


def test_compare_refuses_an_endpoint_that_is_not_registered_and_names_the_near_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [toxicity(-0.5), bits()])

    with pytest.raises(ConfigError) as error:
        compare_run(tmp_path / "run", only=["toxicty"])

    assert "`toxicty` was not registered before training, so it is not tested" in str(error.value)
    assert "did you mean `toxicity`?" in str(error.value)
    assert [row["name"] for row in compare_run(tmp_path / "run", only=["bits"])["endpoints"]] == ["bits"]


SAFETY = endpoint("toxicity", "superiority", TOXICITY, "sft")
ABILITY = endpoint("bits", "non_inferiority", BITS, "pretrain", margin=0.1)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"endpoints": [SAFETY, SAFETY, ABILITY]}, "two endpoints are called `toxicity`"),
    ({"endpoints": [SAFETY, endpoint("bits", "equivalence", BITS, "sft")]}, "`equivalence` needs a margin"),
    ({"endpoints": [SAFETY, ABILITY, endpoint("d", "difference", BITS, "sft")]}, "needs a direction"),
    ({"endpoints": [SAFETY]}, "a verdict needs a primary superiority and a primary non_inferiority"),
    ({"endpoints": [{**SAFETY, "minus_stage": "a", "minus_metric": "b"}, ABILITY]}, "either `minus_stage` or"),
    ({"endpoints": [{**SAFETY, "control": "curated"}, ABILITY]}, "an arm is compared with itself"),
    ({"seeds": [1, 1, 2, 3, 4, 5, 6]}, "a seed is listed twice"),
    ({"refuted_if": [{"endpoint": "toxicty", "is": "worse"}]}, "did you mean `toxicity`"),
    ({"refuted_if": [{"endpoint": "toxicity", "is": "negligible"}]}, "`negligible` needs a margin of `toxicity`"),
    ({"refuted_if": [{"endpoint": "toxicity", "is": "bad"}]}, "'bad'"),
    ({"doses": {"raw": 0.0, "curated": 0.0}}, "each of another dose"),
    ({"alpha": 0.9}, "alpha"),
    ({"endpoint": []}, "did you mean `endpoints`"),
    ({"seeds": [1, 2, 3, 4, 5]}, "5 seeds and 1 superiority endpoints cannot give p below 0.0625"),
    ({"seeds": [1, 2, 3, 4]}, "4 seeds cannot show a loss to be below a margin: p is at least 0.0625"),
    ({"safety": "any", "endpoints": [SAFETY, {**SAFETY, "name": "more"}, ABILITY]}, "p below 0.0625"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_plan_that_contradicts_itself_or_cannot_succeed_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        register(written(tmp_path / "plan.yaml", **changes), tmp_path / "run")

    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


def test_every_problem_of_a_plan_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read_preregistration(written(tmp_path / "plan.yaml", seeds=[1, 1], doses={"raw": 0.0}))

    assert len(error.value.problems) == 4  # the seed, the doses, and both tests that two seeds cannot pass


def test_a_descriptive_plan_may_have_too_few_seeds(tmp_path: Path) -> None:
    plan = read_preregistration(written(tmp_path / "plan.yaml", seeds=[1, 2], descriptive=True))

    assert plan.descriptive


@pytest.mark.parametrize(("text", "said"), [("- a", "a mapping"), ("a: [", "not-yaml"), (None, "no-file")])
def test_a_file_that_is_no_plan_is_named(text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "plan.yaml").write_text(text)

    with pytest.raises(ConfigError) as error:
        read_preregistration(tmp_path / "plan.yaml")

    assert said in str(error.value)


def test_the_plan_that_the_documentation_shows_is_accepted(repo: Path, tmp_path: Path) -> None:
    page = (repo / "docs/reference/statistics.md").read_text(encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")

    plan = read_preregistration(tmp_path / "plan.yaml")

    assert [e.name for e in plan.primary("superiority", "non_inferiority")] == ["toxicity", "bits", "understanding"]
    for name in type(plan.endpoints[0]).model_fields:
        assert name in page or name in {"treatment", "control", "why"}
