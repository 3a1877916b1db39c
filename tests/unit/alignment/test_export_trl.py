"""A run in TRL's formats: TRL's own loaders, trainers and parser take it, with the very tokens the stages saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.export_trl import Exported, command, export_trl
from alignment.loop import LoopSettings
from alignment.lora import LoraSettings
from alignment.model import RewardModel, load_model, new_model, save_model, weights_sha256
from alignment.preferences import DemonstrationRow, JudgedRow, PreferenceRow, RankedRow, write_rows
from alignment.rows import encode, encode_responses
from alignment.stages.dpo import DpoSettings, dpo
from alignment.stages.kto import KtoSettings, kto
from alignment.stages.reward import RewardSettings, reward, start
from alignment.stages.sft import SftSettings, sft
from alignment.tokenizer import load_tokenizer, special_ids
from curation.errors import ConfigError
from tests.unit.alignment.tiny import SENTENCES, tiny_tokenizer

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

LOOP = LoopSettings(learning_rate=1e-3, precision="fp32")
COMMON: dict[str, Any] = {"loop": LOOP, "batch": 4, "held_out": 0.25, "epochs": 1}
SETTINGS: dict[str, Any] = {
    "sft": SftSettings(**COMMON, prompts=0),
    "reward": RewardSettings(**COMMON, centring=0.01),
    "dpo": DpoSettings(**COMMON),
    "kto": KtoSettings(**COMMON),
}
HH = "\n\nHuman: {}\n\nAssistant: Yes?\n\nHuman: Tell me more.\n\nAssistant:"
PAIRS = [PreferenceRow(HH.format(f"Number {k}"), f" {SENTENCES[k % 10]} ", SENTENCES[k % 9][:30]) for k in range(12)]
PAIRS.append(PreferenceRow(({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}), "Ho", "No"))
LISTS = [RankedRow("Which one?", SENTENCES[:4], (1, 2, 2, 4))]
SHOWN = [DemonstrationRow(row.prompt, row.chosen) for row in PAIRS]
JUDGED = [JudgedRow(row.prompt, row.chosen, k % 2 == 0) for k, row in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Exported]]:
    root = tmp_path_factory.mktemp("run")
    tokenizer = tiny_tokenizer()
    save_model(new_model("160k", len(tokenizer), special_ids(tokenizer), seed=3), tokenizer, root / "base")
    cell = root / "run" / "raw" / "7"
    sft(SETTINGS["sft"], root / "base", SHOWN, cell / "sft", 7, arm="raw")
    reward(SETTINGS["reward"], cell / "sft", [*PAIRS, *LISTS], cell / "reward", 7, arm="raw")
    dpo(SETTINGS["dpo"], cell / "sft", PAIRS, cell / "dpo", 7, arm="raw")
    kto(SETTINGS["kto"], cell / "sft", JUDGED, cell / "kto", 7, arm="raw")
    for stage, rows in (("sft", SHOWN), ("dpo", PAIRS), ("kto", JUDGED)):
        write_rows(cell / stage / "rows.jsonl.zst", rows)
    job = {name: {"settings": json.loads(settings.model_dump_json())} for name, settings in SETTINGS.items()}
    (root / "run" / "experiment.json").write_text(json.dumps({**job, "model": str(root / "base")}))
    return root / "run", root / "out", export_trl(root / "run", root / "out")


def loaded(out: Path, stage: str, tmp: Path) -> Any:
    return datasets.load_dataset(str(out / "raw/7" / stage / "rows"), cache_dir=str(tmp / "cache"))


def arguments(tmp: Path) -> dict[str, Any]:
    return {
        "output_dir": str(tmp), "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False,
    }  # fmt: skip


def test_every_stage_is_written_with_its_rows_and_where_it_began(exported: Any) -> None:
    run, out, found = exported
    facts = [(e.stage, e.rows + e.held_out, e.lists, e.begins_with) for e in found]
    base = str(run.parent / "base")
    assert facts == [
        ("dpo", 13, 0, "raw/7/sft/model"),
        ("kto", 13, 0, "raw/7/sft/model"),
        ("reward", 18, 1, "raw/7/reward/start"),
        ("sft", 13, 0, base),
    ]
    assert all(e.held_out > 0 for e in found)
    assert json.loads((out / "export.json").read_text()) == [vars(e) for e in found]
    assert "1 ranked lists became all their pairs" in (out / "README.md").read_text()


def test_models_load_as_the_ones_they_are(exported: Any) -> None:
    run, out, _ = exported
    for stage in ("sft", "dpo", "kto"):
        there = weights_sha256(load_model(out / "raw/7" / stage / "model"))
        assert there == weights_sha256(load_model(run / "raw/7" / stage))


def test_the_reward_model_gives_equal_scores_as_a_sequence_classifier(exported: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    run, out, _ = exported
    tokenizer = load_tokenizer(out / "raw/7/reward/model")
    ids = tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    ours = RewardModel.load(run / "raw/7/reward").eval()
    theirs = AutoModelForSequenceClassification.from_pretrained(str(out / "raw/7/reward/model")).eval()
    with torch.no_grad():
        expected = ours(ids["input_ids"], ids["attention_mask"].bool())
        scores = theirs(**ids).logits.squeeze(1)
    assert torch.allclose(scores + theirs.config.reward_offset, expected, atol=1e-5)
    assert float(expected.std()) > 0.1


def test_trls_reward_trainer_starts_from_the_same_weights_with_the_same_tokens(exported: Any, tmp_path: Path) -> None:
    run, out, _ = exported
    rows = loaded(out, "reward", tmp_path)
    assert rows.keys() == {"train", "test"}
    config = trl.RewardConfig(**arguments(tmp_path), max_length=None)
    trainer = trl.RewardTrainer(
        model=str(out / "raw/7/reward/start"), args=config, train_dataset=rows["train"], eval_dataset=rows["test"]
    )
    tokenizer = load_tokenizer(run / "raw/7/reward")
    expected = set()
    for row in PAIRS:
        found, fate = encode_responses(tokenizer, row.prompt, (row.chosen, row.rejected), 256)
        assert fate == "kept"
        assert found is not None
        expected.add(tuple(tuple(example.prompt + example.response) for example in found))
    both = [*trainer.train_dataset, *trainer.eval_dataset]
    there = {(tuple(row["chosen_ids"]), tuple(row["rejected_ids"])) for row in both}
    assert expected < there
    assert len(there) == len(PAIRS) + 5  # the five ordered pairs of the list
    ours = start(SETTINGS["reward"], run / "raw/7/sft", 7)
    assert torch.equal(trainer.model.score.weight, ours.head.weight)
    assert trainer.model.config.num_hidden_layers == ours.backbone.config.num_hidden_layers == 1
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    assert 0 < float(loss.detach()) < 3


def test_trls_sft_trainer_gets_the_same_tokens_and_learns_only_the_answers(exported: Any, tmp_path: Path) -> None:
    run, out, _ = exported
    rows = loaded(out, "sft", tmp_path)
    config = trl.SFTConfig(**arguments(tmp_path), max_length=None, completion_only_loss=True)
    trainer = trl.SFTTrainer(model=str(out / "raw/7/sft/model"), args=config, train_dataset=rows["train"])
    tokenizer = load_tokenizer(run / "raw/7/sft")
    ours = {}
    for shown in SHOWN:
        example, _ = encode(tokenizer, shown.prompt, shown.response, 256)
        assert example is not None
        ours[example.prompt + example.response] = len(example.prompt)
    assert len(trainer.train_dataset) == len(rows["train"])
    for row in trainer.train_dataset:
        ids = list(row["input_ids"])
        asked = ours[tuple(ids)]
        assert list(row["labels"]) == [-100] * asked + ids[asked:]


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_trls_preference_trainers_take_the_rows(exported: Any, tmp_path: Path, stage: str) -> None:
    _, out, found = exported
    rows = loaded(out, stage, tmp_path)
    name = stage.upper()
    config = getattr(trl, f"{name}Config")(**arguments(tmp_path), max_length=None)
    trainer = getattr(trl, f"{name}Trainer")(
        model=str(out / "raw/7/sft/model"), args=config, train_dataset=rows["train"],
        processing_class=load_tokenizer(out / "raw/7/sft/model"),
    )  # fmt: skip
    assert len(trainer.train_dataset) == next(e.rows for e in found if e.stage == stage)
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    start_loss = {"dpo": 0.6931, "kto": 0.5}[stage]  # policy = reference: ln 2 and 1/2
    assert float(loss.detach()) == pytest.approx(start_loss, abs=1e-3)


def test_every_command_of_the_readme_passes_trls_parser(exported: Any) -> None:
    _, out, found = exported
    text = (out / "README.md").read_text()
    for entry in found:
        words = command(entry)
        assert words is not None
        assert f"`{' '.join(words)}`" in text
        config = {"sft": trl.SFTConfig, "reward": trl.RewardConfig, "dpo": trl.DPOConfig, "kto": trl.KTOConfig}
        parser = trl.TrlParser((trl.ScriptArguments, config[entry.stage], trl.ModelConfig))
        script, training, model = parser.parse_args_and_config(args=[*words[2:], "--use_cpu", "--bf16", "false"])
        assert script.dataset_name == f"raw/7/{entry.stage}/rows"
        assert training.learning_rate == 1e-3
        assert training.num_train_epochs == 1
        assert model.model_name_or_path == entry.begins_with


def test_nothing_to_export_and_a_folder_in_use_are_refused(exported: Any, tmp_path: Path) -> None:
    run, out, _ = exported
    with pytest.raises(ConfigError, match="there is no finished stage"):
        export_trl(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match="the folder has files already"):
        export_trl(run, out)


def test_a_run_without_a_job_is_exported_with_what_is_known(exported: Any, tmp_path: Path) -> None:
    run, _, _ = exported
    for stage in ("reward", "dpo"):
        cell = tmp_path / "bare/arm/0" / stage
        cell.parent.mkdir(parents=True, exist_ok=True)
        cell.symlink_to(run / "raw/7" / stage)
    found = export_trl(tmp_path / "bare", tmp_path / "out")
    assert [(e.stage, e.rows, e.held_out, e.begins_with) for e in found] == [
        ("dpo", 13, 0, None),
        ("reward", 18, 0, None),
    ]
    assert "MODEL stands for the model the stage began with" in (tmp_path / "out/README.md").read_text()


def test_a_stage_with_lora_says_how_to_repeat_it() -> None:
    from alignment.export_trl import readme

    settings = json.loads(SftSettings(**COMMON, lora=LoraSettings()).model_dump_json())
    entry = Exported("sft", "raw/0/sft", 3, 0, "x", 0, "raw/0/pretrain/model", settings)
    assert "needs `--use_peft`" in readme([entry])
