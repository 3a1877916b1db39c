"""`headwater run` samples, waits for people, and goes on from what they said: through the real store and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from alignment.annotators import Guidelines  # noqa: E402
from alignment.config import load_experiment  # noqa: E402
from alignment.experiment import run_folder  # noqa: E402
from alignment.feedback.answers import Answer  # noqa: E402
from alignment.feedback.commands import feedback_arguments, run_feedback  # noqa: E402
from alignment.feedback.items import read_items  # noqa: E402
from alignment.feedback.store import Store  # noqa: E402
from alignment.model import new_model, save_model  # noqa: E402
from alignment.preferences import read_comparisons  # noqa: E402
from alignment.tokenizer import special_ids, train_tokenizer  # noqa: E402
from curation.cli import main  # noqa: E402

pytestmark = pytest.mark.integration
LOOP = {"precision": "fp32", "log_every": 1, "learning_rate": 1e-3}
WORDS = [
    "the",
    "river",
    "runs",
    "below",
    "old",
    "mill",
    "while",
    "grey",
    "herons",
    "wait",
    "near",
    "quiet",
    "water",
    "and",
    "nobody",
    "counts",
    "them",
    "today",
]


def job_file(folder: Path) -> Path:
    """A job on a new model of 160k parameters: PPO in two rounds, the second after people have been asked."""
    tokenizer = train_tokenizer([" ".join(WORDS)] * 4, 300)
    model = new_model("160k", len(tokenizer), special_ids(tokenizer), 1, context=64)
    save_model(model, tokenizer, folder / "model")
    prompts = [" ".join(WORDS[k : k + 3]) for k in range(12)]
    rows = [{"prompt": p, "chosen": f"{p} indeed", "rejected": "no"} for p in prompts]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage = {"rows": [str(folder / "pairs.jsonl")]}
    rounds = {
        "rounds": 2, "feedback_prompts": 4, "feedback_responses": 3, "evaluation_prompts": 4, "held_out": 0.3,
        "eos_floor": 0.0, "diversity_floor": 0.0, "patience": 9, "refit": {"loop": LOOP, "batch": 8},
        "ppo": {
            "updates": 1, "episodes": 4, "loop": LOOP, "sampling": {"response_tokens": 8, "missing_eos": "keep"},
            "update": {"epochs": 1},
        },
    }  # fmt: skip
    job = {
        "kind": "experiment", "output": str(folder / "out"), "model": str(folder / "model"), "seeds": [1, 2],
        "reward": {**stage, "settings": {"loop": LOOP, "batch": 8, "held_out": 0.0}},
        "ppo": {**stage, "rounds": rounds, "people": {}},
    }  # fmt: skip
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def feedback(*given: object) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    feedback_arguments(parser)
    return run_feedback(parser.parse_args([str(one) for one in given]))


def answer(store: Store, item: Any) -> None:
    """Longer is better."""
    lengths = [len(text) for text in item.responses]
    body: dict[str, Any] = {"shown": item.order_for("north-1"), "better": lengths.index(max(lengths)), "strength": 1}
    if item.kind == "rank":
        ranks = [1 + sum(other > mine for other in lengths) for mine in lengths]
        body = {"shown": body["shown"], "ranks": ranks, "ratings": [3] * len(ranks), "flags": [[] for _ in ranks]}
    store.save(Answer("north-1", "north", item.id, "1", body))


def test_a_run_waits_for_people_after_sampling_and_goes_on_from_their_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    job = job_file(tmp_path)
    run = run_folder(load_experiment(str(job)))
    assert main(["run", str(job)]) == 4
    said = capsys.readouterr().err
    assert said.count("error[waiting-for-people]") == 2  # both seeds are asked at once
    assert f"--items {run}/people/items.jsonl" in said
    rounds = [run / "given" / seed / "ppo" / "round-2" for seed in "12"]
    asked = [(here / "people.jsonl").read_bytes() for here in rounds]
    assert not any((here / "reward").exists() for here in rounds)

    items = read_items(run / "people" / "items.jsonl")
    assert {item.id for item in items} == {json.loads(line)["id"] for one in asked for line in one.splitlines()}
    store = Store(tmp_path / "answers.db", create=True)
    store.add_guidelines(Guidelines(version="1", text="Prefer the longer answer."))
    store.add_items(items)
    for item in items[1:]:
        answer(store, item)
    assert feedback("export", tmp_path / "answers.db", "--out", run / "people" / "answers") == 0
    assert main(["run", str(job)]) == 4  # one item is still without an answer
    assert f"{len(asked[0].splitlines()) - 1} of {len(asked[0].splitlines())} items" in capsys.readouterr().err

    answer(store, items[0])
    assert feedback("export", tmp_path / "answers.db", "--out", run / "people" / "answers") == 0
    assert main(["run", str(job)]) == 0
    assert [(here / "people.jsonl").read_bytes() for here in rounds] == asked  # nothing was sampled anew
    for here in rounds:
        mine = {item.id for item in read_items(here / "people.jsonl")}
        new = [row for row in read_comparisons(here / "reward" / "rows.jsonl.zst") if row.annotator_id]
        assert len(new) == sum(answer.item in mine and len(set(answer.body.get("ranks", [1, 2]))) > 1
                               for answer in store.answers())  # fmt: skip
        assert {(row.annotator_id, row.pool, row.guidelines, row.source) for row in new} == {
            ("north-1", "north", "1", "policy")
        }
        assert (here / "ppo" / "stage.json").is_file()
        card = json.loads((here / "reward" / "data_card.json").read_text())
        assert (card["pools"]["north"], card["rows_without_annotator"]) == (
            {"rows": len(new), "annotators": 1}, card["rows"] - len(new)
        )  # fmt: skip
        assert [text["text"] for one in card["exports"] for text in one["guidelines"]] == ["Prefer the longer answer."]
    first = json.loads((run / "given" / "1" / "reward" / "data_card.json").read_text())
    assert ([one["file"] for one in first["files"]], first["exports"]) == (["pairs.jsonl"], [])
    assert json.loads((rounds[0].parent / "rounds.json").read_text())["stop"] == "rounds"
