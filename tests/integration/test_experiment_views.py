"""One run with a tagged arm, decontaminated arms and perturbed models; what is missing is said before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

import torch
from jobs import CHEAP_ARMS, corpus, deal, run_job, words
from test_experiment import LOOP, write

from alignment.config import load_experiment
from alignment.experiment import results, run_experiment, run_folder
from alignment.item_scores import read_metrics
from curation.errors import ConfigError

pytestmark = pytest.mark.integration
SFT = {"batch": 16, "epochs": 1, "held_out": 0.2, "response_tokens": 8, "prompts": 2, "loop": LOOP}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curated corpus, rows, an evaluation file that leaked into the corpus, and the job."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("views")
    documents = corpus(120)
    run = run_job([deal(folder / "in", documents, 2) / "*.jsonl"], folder / "runs", arms=CHEAP_ARMS)
    leaked = max((row["text"] for row in documents if isinstance(row.get("text"), str)), key=len)
    write(folder / "held.jsonl", [{"id": "leak", "text": leaked}, {"id": "h", "text": " ".join(words("h", 40))}])
    write(folder / "asked.jsonl", [{"id": str(k), "text": " ".join(words(("a", k), 4))} for k in range(4)])
    rows = [{"prompt": " ".join(words(("q", k), 4)), "response": " ".join(words(("r", k), 4))} for k in range(40)]
    write(folder / "rows.jsonl", rows)
    write(folder / "prefixes.jsonl", [{"text": " ".join(words(("p", k), 6))} for k in range(2)])
    job = {
        "kind": "experiment", "output": str(folder / "out"), "corpus": str(run), "arms": ["raw", "tidy", "tagged"],
        "seeds": [1], "tokens": {"vocabulary": 384, "context": 64, "tagged": {"by": "tidy", "ignore": []}},
        "pretrain": {"size": "160k", "batch_tokens": 1024, "max_epochs": 2.0, "loop": LOOP},
        "sft": {"rows": [str(folder / "rows.jsonl")], "settings": SFT},
        "decontaminate": {},
        "evaluate": {
            "metrics": {
                "bits_per_byte": {"slices": {"held": str(folder / "held.jsonl")}},
                "richness": {"data": str(folder / "asked.jsonl"), "samples": 2, "new_tokens": 8},
            }
        },
        "perturb": [
            {
                "name": "benign", "kind": "finetune", "start": ["sft"], "rows": [str(folder / "rows.jsonl")],
                "metrics": ["richness", "bits_per_byte"], "settings": {k: v for k, v in SFT.items() if k != "epochs"},
            },
            {
                "name": "jailbreak", "kind": "prefix", "start": ["pretrain", "sft"],
                "rows": [str(folder / "prefixes.jsonl")], "metrics": ["richness"],
            },
        ],
    }  # fmt: skip
    (folder / "experiment.yaml").write_text(json.dumps(job), encoding="utf-8")
    return folder


def changed(made: Path, to: Path, **given: object) -> str:
    """The job with other settings, elsewhere."""
    job = {**json.loads((made / "experiment.yaml").read_text()), "output": str(to / "out"), **given}
    (to / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
    return str(to / "job.yaml")


@pytest.fixture(scope="module")
def run(made: Path) -> Path:
    return run_experiment(load_experiment(str(made / "experiment.yaml")))


def test_every_arm_is_perturbed_and_measured_before_and_after(run: Path) -> None:
    stages = {(result.arm, Path(result.path).name) for result in results(run)}
    assert stages == {(arm, stage) for arm in ("raw", "tidy", "tagged") for stage in ("pretrain", "sft", "benign-sft")}
    found = {
        (arm, stage): {m.name: m.value for m in read_metrics(run / arm / "1" / stage / "evaluation.json")}
        for arm in ("raw", "tidy", "tagged")
        for stage in ("sft", "benign-sft", "jailbreak-sft", "jailbreak-pretrain")
    }

    for arm in ("raw", "tidy", "tagged"):
        assert found[arm, "benign-sft"].keys() == found[arm, "sft"].keys()
        assert found[arm, "benign-sft"]["bits_per_byte.held"] != found[arm, "sft"]["bits_per_byte.held"]
        # A prefix changes what is written, asks for nothing else, and trains nothing.
        assert found[arm, "jailbreak-sft"] != found[arm, "sft"]
        assert {name.split(".")[0] for name in found[arm, "jailbreak-sft"]} == {"richness"}
        assert not (run / arm / "1" / "jailbreak-sft" / "stage.json").exists()
    (benign,) = [r for r in results(run) if (r.arm, Path(r.path).name) == ("raw", "benign-sft")]
    assert (benign.stage, benign.steps) == ("sft", 2)  # one epoch where the job does not say: 32 of 40 rows


def test_what_leaked_is_in_no_arm_and_is_counted_for_each_file(run: Path, made: Path) -> None:
    record = json.loads((run / "experiment.json").read_text())
    counts = record["decontaminated"]

    assert set(counts) == {"raw", "tidy", "tagged"}
    assert counts["raw"]["documents"] >= 1
    assert counts["raw"]["files"][str(made / "held.jsonl")]["items"] == 1
    assert counts["raw"]["files"][str(made / "asked.jsonl")] == {"documents": 0, "items": 0}
    assert counts["tagged"] == counts["raw"]


def test_the_tagged_arm_is_trained_on_the_rows_of_the_raw_one_and_asked_after_the_good_tag(run: Path) -> None:
    from transformers import AutoTokenizer

    found = {(r.arm, Path(r.path).name): r for r in results(run)}
    raw, tagged = found["raw", "pretrain"], found["tagged", "pretrain"]

    assert (raw.steps, raw.tokens_seen, raw.rows) == (tagged.steps, tagged.tokens_seen, tagged.rows)
    assert raw.weights_sha256 != tagged.weights_sha256
    assert AutoTokenizer.from_pretrained(run / "tagged/1/sft").bos_token == "<|aligned|>"
    assert AutoTokenizer.from_pretrained(run / "raw/1/sft").bos_token == "<|begin|>"


def test_running_it_again_measures_nothing_again(run: Path, made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.glob("*/*/*/*.zst")}

    assert run_experiment(load_experiment(str(made / "experiment.yaml"))) == run
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_changed_job_is_another_path_and_fields_that_came_later_change_none(made: Path, tmp_path: Path) -> None:
    plain = {"tokens": {"vocabulary": 384}, "arms": ["raw", "tidy"], "perturb": [], "decontaminate": None}
    name = run_folder(load_experiment(changed(made, tmp_path, **plain))).name
    spelt = {**plain, "tokens": {"vocabulary": 384, "topic": [], "tagged": None}}

    assert run_folder(load_experiment(changed(made, tmp_path, **spelt))).name == name
    for other in ({"decontaminate": {}}, {"seeds": [2]}, {"tokens": {"vocabulary": 385}}, {"sft": None}):
        assert run_folder(load_experiment(changed(made, tmp_path, **{**plain, **other}))).name != name, other


def test_a_metric_without_its_data_stops_the_run_before_it_trains_unless_the_job_leaves_it_out(
    made: Path, tmp_path: Path
) -> None:
    held = str(made / "held.jsonl")
    metrics = {
        "bits_per_byte": {"slices": {"held": held, "aae": "aae.jsonl"}}, "over_refusal": {"data": "xstest.jsonl"},
    }  # fmt: skip
    given = {"arms": ["tidy"], "tokens": {"vocabulary": 384, "context": 64}, "perturb": [], "sft": None}
    job = load_experiment(changed(made, tmp_path, evaluate={"metrics": metrics}, **given))
    with pytest.raises(ConfigError) as refused:
        run_experiment(job)

    said = str(refused.value)
    assert all(name in said for name in ("`xstest.jsonl`", "XSTest as JSONL", "`aae.jsonl`", "`skip_metrics`"))
    assert not (run_folder(job) / "tidy").exists()
    kept = {"metrics": {**metrics, "bits_per_byte": {"slices": {"held": held}}}, "skip_metrics": ["over_refusal"]}
    found = run_experiment(load_experiment(changed(made, tmp_path, evaluate=kept, **given)))
    assert [m.name for m in read_metrics(found / "tidy/1/pretrain/evaluation.json")] == ["bits_per_byte.held"]


def test_a_perturbation_that_could_change_nothing_or_has_no_rows_is_refused(made: Path, tmp_path: Path) -> None:
    one = {"name": "jailbreak", "kind": "prefix", "rows": ["nowhere.jsonl"], "metrics": ["bits_per_byte"]}
    with pytest.raises(ConfigError, match="asks the model for no text"):
        load_experiment(changed(made, tmp_path, perturb=[one]))
    with pytest.raises(ConfigError, match="starts from `dpo`, which does not run"):
        load_experiment(changed(made, tmp_path, perturb=[{**one, "start": ["dpo"]}]))
    job = load_experiment(changed(made, tmp_path, perturb=[{**one, "metrics": ["richness"]}]))
    with pytest.raises(ConfigError, match=r"no file `nowhere\.jsonl`"):
        run_experiment(job)
