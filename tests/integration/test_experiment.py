"""`headwater run`: arms and seeds through all six stages, measured; done once, and the same again elsewhere."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

import torch
from jobs import CHEAP_ARMS, corpus, deal, run_job, words
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignment.config import load_experiment
from alignment.experiment import results, run_experiment, run_folder
from alignment.item_scores import read_metrics, read_scores
from alignment.stage import StageResult
from curation.cli import main
from curation.errors import ConfigError

pytestmark = pytest.mark.integration
LOOP = {"precision": "fp32", "log_every": 1}
STAGES = ["pretrain", "sft", "reward", "ppo", "dpo", "kto"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curated corpus with two arms that hold the same documents, and others that do not."""
    folder = deal(tmp_path_factory.mktemp("corpus"), corpus(150), 2)
    twin = {"name": "twin", "rules": []}
    return run_job([folder / "*.jsonl"], tmp_path_factory.mktemp("runs"), arms=[*CHEAP_ARMS, twin])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers that repeat the question are preferred to answers that do not."""
    folder, rng = tmp_path_factory.mktemp("rows"), random.Random(1)
    pairs = []
    for number in range(96):
        question, other = " ".join(words(("q", number), 4)), " ".join(words(("o", number), rng.randint(3, 8)))
        pairs.append({"prompt": question, "chosen": question, "rejected": other})
    write(folder / "pairs.jsonl", pairs)
    write(folder / "demonstrations.jsonl", [{"prompt": p["prompt"], "response": p["chosen"]} for p in pairs])
    judged = [
        {"prompt": p["prompt"], "response": p[side], "label": side == "chosen"}
        for p in pairs
        for side in ("chosen", "rejected")
    ]
    write(folder / "judged.jsonl", judged)
    write(folder / "documents.jsonl", [{"id": f"h{k}", "text": " ".join(words(("h", k), 40))} for k in range(8)])
    return folder


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def job_file(folder: Path, run: Path, rows: Path, **given: object) -> Path:
    job = {
        "kind": "experiment",
        "output": str(folder / "out"),
        "corpus": str(run),
        "arms": ["raw", "twin", "tidy"],
        "seeds": [1],
        "tokens": {"vocabulary": 384, "context": 64},
        "pretrain": {"size": "160k", "batch_tokens": 1024, "max_epochs": 2.0, "loop": LOOP},
        "sft": {
            "rows": [str(rows / "demonstrations.jsonl")],
            "settings": {"batch": 16, "epochs": 1, "held_out": 0.2, "response_tokens": 12, "prompts": 8, "loop": LOOP},
        },
        "reward": {"rows": [str(rows / "pairs.jsonl")], "settings": {"batch": 16, "held_out": 0.2, "loop": LOOP}},
        "ppo": {
            "rows": [str(rows / "pairs.jsonl")],
            "settings": {"updates": 2, "episodes": 8, "sampling": {"response_tokens": 8}, "loop": LOOP},
        },
        "dpo": {"rows": [str(rows / "pairs.jsonl")], "settings": {"batch": 16, "held_out": 0.2, "loop": LOOP}},
        "kto": {"rows": [str(rows / "judged.jsonl")], "settings": {"batch": 16, "held_out": 0.2, "loop": LOOP}},
        "evaluate": {"metrics": {"bits_per_byte": {"slices": {"held": str(rows / "documents.jsonl")}}}},
        **given,
    }
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def done(run: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished experiment: its job file and its folder."""
    job = job_file(tmp_path_factory.mktemp("experiment"), run, rows)
    return job, run_experiment(load_experiment(str(job)))


def by_stage(folder: Path) -> dict[tuple[str, str], StageResult]:
    return {(result.arm, result.stage): result for result in results(folder)}


def test_every_arm_goes_through_every_stage_and_is_measured_after_it(done: tuple[Path, Path]) -> None:
    _, folder = done
    found = by_stage(folder)

    assert set(found) == {(arm, stage) for arm in ("raw", "twin", "tidy") for stage in STAGES}
    assert all(result.steps > 0 and result.tokens_seen > 0 and result.seed == 1 for result in found.values())
    for arm, stage in found:
        if stage != "reward":
            scores = read_scores(folder / arm / "1" / stage / "scores.jsonl.zst")
            assert scores.num_rows == 8
            assert set(scores.column("arm").to_pylist()) == {arm}
            (metric,) = read_metrics(folder / arm / "1" / stage / "evaluation.json")
            assert (metric.name, metric.unit, metric.higher_is_better, metric.n) == (
                "bits_per_byte.held",
                "bits",
                False,
                8,
            )
            assert metric.value is not None
            assert 0 < metric.value < 12


def test_arms_with_the_same_documents_end_with_the_same_weights_and_another_arm_does_not(
    done: tuple[Path, Path],
) -> None:
    found = by_stage(done[1])
    for stage in STAGES:
        raw, twin, tidy = (found[arm, stage] for arm in ("raw", "twin", "tidy"))
        assert raw.weights_sha256 == twin.weights_sha256, stage
        assert raw.weights_sha256 != tidy.weights_sha256, stage
        assert (raw.steps, raw.rows) == (tidy.steps, tidy.rows), stage
    assert found["raw", "pretrain"].tokens_seen == found["tidy", "pretrain"].tokens_seen


def test_a_stage_leaves_a_model_that_the_library_loads_and_asks(done: tuple[Path, Path]) -> None:
    folder = done[1] / "tidy" / "1" / "dpo"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "ba ke"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )

    answer = model.generate(**asked, max_new_tokens=4, do_sample=False)

    assert answer.shape[1] > asked["input_ids"].shape[1]


def test_running_it_again_repeats_nothing(done: tuple[Path, Path]) -> None:
    job, folder = done
    before = {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "experiment.json"
    }

    assert run_experiment(load_experiment(str(job))) == folder

    after = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"fingerprint"}


def test_the_command_prints_one_row_a_stage_and_the_same_numbers_elsewhere(
    done: tuple[Path, Path], run: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_file(tmp_path, run, rows, arms=["tidy"])

    assert main(["run", str(job)]) == 0

    *table, path = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in table] == [["arm", "seed", "stage"]] + [
        ["tidy", "1", s] for s in sorted(STAGES)
    ]
    # Alone, the arm has a tokenizer and a stream of its own: other numbers than beside `raw`, but a run of its own.
    again = by_stage(run_experiment(load_experiment(str(job), ["output=" + str(tmp_path / "elsewhere")])))
    assert {key: result.weights_sha256 for key, result in again.items()} == {
        key: result.weights_sha256 for key, result in by_stage(Path(path)).items()
    }


def test_stages_can_start_from_any_model_directory(done: tuple[Path, Path], rows: Path, tmp_path: Path) -> None:
    job = {
        "kind": "experiment",
        "output": str(tmp_path),
        "seeds": [1],
        "model": str(done[1] / "raw" / "1" / "pretrain"),
        "dpo": {"rows": [str(rows / "pairs.jsonl")], "settings": {"batch": 16, "loop": LOOP}},
    }
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")

    found = results(run_experiment(load_experiment(str(path))))

    assert [(result.arm, result.seed, result.stage) for result in found] == [("given", 1, "dpo")]


def test_every_mistake_of_a_job_is_said_before_anything_is_trained(run: Path, rows: Path, tmp_path: Path) -> None:
    job = job_file(
        tmp_path, run, rows,
        sft={"rows": ["nowhere.jsonl"]},
        evaluate={"metrics": {"hellaswagg": {}, "blimp": {"dat": "x"}}, "stages": ["reward"]},
    )  # fmt: skip
    with pytest.raises(ConfigError) as refused:
        load_experiment(str(job))
    said = str(refused.value)
    assert [problem.code for problem in refused.value.problems][:2] == ["unknown-stage", "unknown-metric"]
    assert "did you mean `hellaswag`?" in said
    assert "`dat`" in said

    job = job_file(tmp_path, run, rows, sft={"rows": ["nowhere.jsonl"]})
    with pytest.raises(ConfigError, match=r"no file `nowhere\.jsonl`"):
        run_experiment(load_experiment(str(job)))
    assert not (run_folder(load_experiment(str(job))) / "raw").exists()


def test_a_killed_experiment_goes_on_and_ends_with_the_same_weights(
    done: tuple[Path, Path], run: Path, rows: Path, tmp_path: Path
) -> None:
    job = job_file(tmp_path, run, rows)
    command = subprocess.Popen([sys.executable, "-m", "curation", "run", str(job)], stdout=subprocess.DEVNULL)
    folder = run_folder(load_experiment(str(job)))
    deadline = time.monotonic() + 240
    while len(list(folder.glob("*/*/*/stage.json"))) < 4 and time.monotonic() < deadline and command.poll() is None:
        time.sleep(0.02)
    command.kill()
    command.wait()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*/stage.json")}
    assert 4 <= len(before) < 18

    assert run_experiment(load_experiment(str(job))) == folder

    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {key: result.weights_sha256 for key, result in by_stage(folder).items()} == {
        key: result.weights_sha256 for key, result in by_stage(done[1]).items()
    }


def test_two_processes_share_the_cells_of_one_job_and_end_with_the_weights_of_one(
    done: tuple[Path, Path], run: Path, rows: Path, tmp_path: Path
) -> None:
    job = job_file(tmp_path, run, rows, reward=None, ppo=None, dpo=None, kto=None)
    command = [sys.executable, "-m", "curation", "run", str(job)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    whole = {key: result.weights_sha256 for key, result in by_stage(done[1]).items()}
    shared = {key: result.weights_sha256 for key, result in by_stage(Path(said[0][0].splitlines()[-1])).items()}
    assert shared == {key: whole[key] for key in whole if key[1] in {"pretrain", "sft"}}
    trained = [line.split(":")[0] for _, err in said for line in err.splitlines() if re.search(r": \d+ steps, ", line)]
    assert sorted(trained) == ["pretrain"] * 3 + ["sft"] * 3
