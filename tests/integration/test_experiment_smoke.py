"""The experiment of `make experiment-smoke`, as a reader of the README would run it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

import torch

from alignment.curves import read_curves
from alignment.experiment import results
from alignment.judge_cards import read_judges
from curation.cli import main

pytestmark = pytest.mark.integration
REPO = Path(__file__).resolve().parents[2]
EXAMPLES = REPO / "examples"


def test_the_rows_of_the_examples_are_what_their_script_writes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_alignment_rows", EXAMPLES / "make_alignment_rows.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)

    script.write(tmp_path)

    committed = {path.name: path.read_bytes() for path in (EXAMPLES / "alignment").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished experiment on two arms of the sample corpus."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPO)
        sample = ["curate", "examples/curate_sample.yaml", "--quiet", "--set", f"output={folder}/corpus"]
        assert main([*sample, "--set", "arms=[raw, curated]"]) == 0
        job = ["run", "examples/experiment_smoke.yaml", "--set", f"corpus={folder}/corpus/latest"]
        assert main([*job, "--set", f"output={folder}/out"]) == 0
    (found,) = (folder / "out").iterdir()
    return found


def test_both_arms_and_seeds_went_through_all_stages_and_doses(run: Path) -> None:
    names = {"pretrain", "sft", "reward", "reward_held_out", "ppo", "dpo", "kto"}
    doses = {"effort-32", "effort-128", "tamper-24", "tamper-96", "benign-dpo"}
    found = {(r.arm, r.seed, Path(r.path).name): r for r in results(run)}

    assert set(found) == {(a, s, n) for a in ("raw", "curated") for s in (1, 2) for n in names | doses}
    for arm in ("raw", "curated"):
        for seed in (1, 2):
            assert found[arm, seed, "sft"].metrics["loss_after"] < found[arm, seed, "sft"].metrics["loss_before"] - 1
            assert found[arm, seed, "reward"].metrics["accuracy_low"] > 0.5
            assert found[arm, seed, "dpo"].metrics["margin_gain_low"] > 0
            assert found[arm, seed, "pretrain"].tokens_seen == found["raw", 1, "pretrain"].tokens_seen
    assert len({r.weights_sha256 for key, r in found.items() if key[2] == "pretrain"}) == 4


def test_training_on_insults_makes_the_judges_see_insults(run: Path) -> None:
    wanted = ("tamper", "toxicity.words.rate", "rows")
    points = [p for p in read_curves(run) if (p.curve, p.metric, p.x_unit) == wanted]
    by_dose = {dose: [p.value for p in points if p.x == dose] for dose in (0.0, 24.0, 96.0)}

    assert all(len(values) == 4 for values in by_dose.values())
    assert max(by_dose[96.0]) > max(by_dose[0.0])


def test_effort_is_told_in_rows_steps_seconds_and_distance(run: Path) -> None:
    points = [p for p in read_curves(run) if (p.curve, p.metric) == ("effort", "bits_per_byte.clean")]
    nats = [
        [p.x for p in points if (p.arm, p.seed, p.x_unit) == (a, s, "nats")] for a in ("curated", "raw") for s in (1, 2)
    ]

    assert {p.x_unit for p in points} == {"rows", "steps", "seconds", "nats"}
    assert all(line[0] == 0 and line[1] > 0 and line[2] > line[1] for line in nats)


def test_judges_are_of_two_families_and_know_their_errors(run: Path) -> None:
    ngram, words = read_judges(run)

    assert (ngram.name, words.name) == ("ngram", "words")
    assert ngram.family != words.family
    assert ngram.labelled is not None
    assert min(ngram.labelled.sensitivity, ngram.labelled.specificity) > 0.9


def test_two_seeds_give_no_verdict_and_the_page_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(run)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Not resolved")
    assert "2 seeds are too few" in said
    found = json.loads((run / "compare.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in found["endpoints"][:2]] == ["toxicity_after_sft", "clean_text"]

    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Not resolved" in page
    assert "<script src" not in page
    assert "https://" not in page.replace("https://www.w3.org", "")
