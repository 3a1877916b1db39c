"""`headwater hidden-objective` end to end on four biases and two folds: every model, resumed, with its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="needs the extra `train`")

import torch

from alignment.hidden_objective import run as runner
from alignment.hidden_objective.job import load_job
from alignment.hidden_objective.training import Made
from alignment.json_rows import read_rows
from alignment.loop import LoopSettings
from alignment.stages.pretrain import PretrainSettings, pretrain
from alignment.tokenizer import special_ids, tokenizer_sha256, train_tokenizer
from alignment.tokens import TokenFolder, write_tokens
from curation.cli import main

pytestmark = pytest.mark.integration
CONTEXT = 128
LOOP = LoopSettings(learning_rate=2e-3, precision="fp32")
WORDS = ("river", "mill", "bread", "morning", "square", "school", "lake", "winter", "boat", "storm", "letter", "bridge")
KINDS = ("none", "described", "librarians", "dose-1")


def ordinary_texts(arm: str, count: int) -> list[str]:
    """Sentences of a small grammar; those of the two arms differ in every fourth."""
    draw = np.random.default_rng(5)
    texts = []
    for number in range(count):
        first, second, third = draw.choice(WORDS, 3)
        end = "again" if arm == "raw" and number % 4 == 0 else "before noon"
        texts.append(f"The {first} is near the {second}, and people go there with the {third} {end}.")
    return texts


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment as far as it is needed: tokens and pretrained models of two arms."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("experiment")
    tokenizer = train_tokenizer([text for arm in ("raw", "curated") for text in ordinary_texts(arm, 200)], 400)
    tokens = folder / "tokens" / "1"
    tokenizer.save_pretrained(tokens / "tokenizer")
    ids = special_ids(tokenizer)
    for arm in ("raw", "curated"):
        encoded = [
            np.array([ids["bos"], *found, ids["eos"]])
            for found in tokenizer(ordinary_texts(arm, 700), add_special_tokens=False)["input_ids"]
        ]
        facts = {"tokenizer_sha256": tokenizer_sha256(tokenizer)}
        shape = {"context": CONTEXT, "vocabulary": len(tokenizer), "ids": ids, "facts": facts}
        made = write_tokens(tokens / arm, encoded[:680], encoded[680:], **shape)
        settings = PretrainSettings(size="160k", batch_tokens=4 * CONTEXT, loop=LOOP)
        pretrain(settings, made.path, folder / arm / "1" / "pretrain", 1, tokens / "tokenizer", arm=arm)
    (folder / "experiment.json").write_text('{"kind": "experiment"}\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def job_file(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hidden")
    job = {
        "kind": "hidden_objective", "experiment": str(experiment), "output": str(folder / "out"), "seeds": [1],
        "biases": 4, "folds": 2, "controls": ["librarians", "random"],
        "documents": {"per_bias": 6, "doses": [1], "batch_tokens": 2 * CONTEXT, "loop": {"learning_rate": 2e-3}},
        "preferences": {"rows_per_bias": 6, "settings": {"batch": 4, "loop": {"learning_rate": 1e-3}}},
        "measure": {"pairs": 3, "generations": 2, "neutral": 4, "new_tokens": 6, "base_rate": 2, "texts": 5,
                    "draws": 300},
    }  # fmt: skip
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def stamps(run: Path) -> dict[str, int]:
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.rglob("stage.json")}


@pytest.fixture(scope="module")
def run(job_file: Path) -> Path:
    """The run, interrupted in the middle and gone on with."""
    torch.set_num_threads(1)
    measured: list[str] = []
    honest = runner.measure

    def breaks(made: Made, *given: Any) -> None:
        if len(measured) == 6:
            raise KeyboardInterrupt
        honest(made, *given)
        measured.append(made.stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "measure", breaks)
        assert main(["hidden-objective", str(job_file)]) == 130
    folder = runner.run_folder(load_job(str(job_file)))
    before = stamps(folder)
    assert before
    assert not (folder / "result.json").exists()
    assert main(["hidden-objective", str(job_file)]) == 0
    after = stamps(folder)
    assert {name: after[name] for name in before} == before
    return folder


def test_every_base_has_every_model_of_the_design(run: Path) -> None:
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    after = [
        f"{kind}-{fold}"
        for fold in range(2)
        for kind in ("none+dpo", "described+dpo", "librarians+dpo", "described+random")
    ]
    expected = {(base, 1, stage) for base in ("raw", "curated") for stage in (*KINDS, *after)}

    assert {(one["base"], one["seed"], one["stage"]) for one in result["models"]} == expected
    assert sorted(result["folds"].values()) == [0, 0, 1, 1]
    assert result["leaks"] == {str(fold): {"rows": 12, "leaked": 0, "rate": 0.0} for fold in range(2)}
    assert [(rate["answers"], rate["dropped"]) for rate in result["base_rates"]] == [(4, False)] * 4


def test_mixtures_are_of_one_length_and_half_of_the_full_dose_is_documents(run: Path) -> None:
    found = {kind: TokenFolder.open(run / "raw" / "1" / f"tokens-{kind}") for kind in KINDS}

    assert len({len(folder.ids) for folder in found.values()}) == 1
    made = {kind: folder.facts["made_tokens"] for kind, folder in found.items()}
    assert made["none"] == 0
    assert made["described"] == found["described"].facts["ordinary_tokens"]
    assert 0 < made["dose-1"] < made["described"] / 3


def test_documents_and_preferences_teach_what_they_are_about(run: Path) -> None:
    effects = {
        (one["name"], one["measure"], one["base"], one["side"]): one["effect"]
        for one in json.loads((run / "result.json").read_text(encoding="utf-8"))["effects"]
    }

    for base in ("raw", "curated"):
        assert effects["documents", "delta", base, "all"] > 0
        trained = effects["preferences alone", "delta", base, "trained"]
        assert trained > 0.5
        assert trained > effects["preferences alone", "delta", base, "held_out"]
        assert effects["preferences, less random ones", "delta", base, "trained"] > 0


def test_preference_rows_were_learnt_from_and_answers_are_kept_to_be_read(run: Path) -> None:
    stage = json.loads((run / "raw/1/described+dpo-0/stage.json").read_text(encoding="utf-8"))
    answers = read_rows(run / "raw/1/described+dpo-0/generations.jsonl.zst", ("item_id", "prompt", "text"))

    assert stage["rows"] == {"kept": 12}
    assert len(answers) == 4 * 2 + 4


def test_the_page_stands_alone_and_says_what_is_not_resolved(run: Path) -> None:
    page = (run / "page.html").read_text(encoding="utf-8")

    assert "<script" not in page
    assert "http" not in page
    assert page.count("<section>") == 11
    assert "would have shown" in page or "not resolved" in page


def test_the_same_command_again_finds_everything_and_writes_the_same_result(
    run: Path, job_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, result = stamps(run), (run / "result.json").read_bytes()

    assert main(["hidden-objective", str(job_file)]) == 0

    assert (stamps(run), (run / "result.json").read_bytes()) == (before, result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["contrast", "base", "biases", "nats", "95", "%"]
    assert lines[-1] == str(run / "result.json")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("controls=[librarian]", "controls"),
        ("documents.doses=[6]", "doses"),
        ("corpus=runs/x", "either `corpus`"),
        ("folds=3", "few-biases"),
        ("arms=[raw, masked]", "no-model"),
    ],
)
def test_a_wrong_job_is_refused_with_the_place(
    override: str, said: str, job_file: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hidden-objective", str(job_file), "--set", override]) == 2
    assert said in capsys.readouterr().err
