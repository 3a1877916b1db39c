"""Which human? Pools that want opposite things, and the table that has to show it."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from alignment.annotators import Pool, PoolSettings, StatedPreference  # noqa: E402
from alignment.audits.planted import DEEDS, THINGS  # noqa: E402
from alignment.audits.pools import ENSEMBLE, Contested, PoolAccuracy, rows_of_pools, which_human  # noqa: E402
from alignment.model import new_model, save_model  # noqa: E402
from alignment.preference_rows import PreferenceRow  # noqa: E402
from alignment.preferences import write_rows  # noqa: E402
from alignment.tokenizer import special_ids, train_tokenizer  # noqa: E402
from curation.cli import main  # noqa: E402
from curation.errors import DataContractError  # noqa: E402

BRIEF, FULL = "Look first.", "Take your time with it and begin with the small parts, thank you."


def pool(name: str, weight: float) -> Pool:
    stated = (StatedPreference(feature="log_words", weight=weight),)
    return Pool(PoolSettings(name=name, preferences=stated, temperature=0.3), seed=3)


def pairs(asked: Pool) -> list[PreferenceRow]:
    prompts = [f"How do I {deed} a {thing}?" for deed, thing in product(DEEDS, THINGS)]
    return [asked.choose(prompt, BRIEF, FULL) for prompt in prompts]


def result_of(folder: Path, *pools: Pool) -> dict[str, object]:
    """The command's JSON for rows of these pools, from a new model of 160k parameters."""
    rows = [row for one in pools for row in pairs(one)]
    write_rows(folder / "rows.jsonl", rows)
    tokenizer = train_tokenizer([text for row in rows for text in (str(row.prompt), row.chosen, row.rejected)], 512)
    save_model(new_model("160k", len(tokenizer), special_ids(tokenizer), 1), tokenizer, folder / "backbone")
    loop = {"learning_rate": 2e-3, "precision": "fp32", "warmup": 0.1, "weight_decay": 0.0}
    settings = {"loop": loop, "epochs": 2, "batch": 16, "micro": 32, "held_out": 0.3, "keep_layers": 1.0}
    job = {"kind": "audit_pools", "backbone": str(folder / "backbone"), "rows": [str(folder / "rows.jsonl")],
           "output": str(folder / "out"), "settings": settings}  # fmt: skip
    (folder / "job.yaml").write_text(json.dumps(job))
    assert main(["audit-reward", "--pools", str(folder / "job.yaml")]) == 0
    return dict(json.loads((folder / "out" / "pools.json").read_text()))


def test_pools_that_want_opposite_things_are_told_apart_and_no_single_model_serves_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    result = result_of(tmp_path, pool("brief", -1.0), pool("full", 1.0))
    of = {(one["pool"], one["model"]): one for one in result["accuracy"]}  # type: ignore[attr-defined]
    for own, other in (("brief", "full"), ("full", "brief")):
        assert of[own, own]["low"] > 0.8
        assert of[own, other]["high"] < 0.2
        assert of[own, "all"]["pairs"] == of[own, own]["pairs"] > 20
    assert of["brief", "all"]["accuracy"] + of["full", "all"]["accuracy"] < 1.2  # what one gains, the other loses
    split = {(one["pool"], one["contested"]): one for one in result["contested"]}  # type: ignore[attr-defined]
    assert split["brief", True]["share"] > 0.9
    assert split["full", True]["share"] > 0.9
    page = (tmp_path / "out" / "pools.md").read_text()
    assert capsys.readouterr().out == f"{page}\n{tmp_path}/out/pools.json\n"
    assert "| people of | rows | held-out pairs | model of brief | model of full |" in page
    card = json.loads((tmp_path / "out" / "models" / "brief" / "data_card.json").read_text())
    assert card["pools"] == {"brief": {"rows": 144, "annotators": 1}}


def test_the_tables_count_each_pools_pairs_under_each_model_and_where_models_disagree() -> None:
    held = {"a": [PreferenceRow("q", "x", "y")] * 4, "b": [PreferenceRow("q", "y", "x")] * 2}

    def rewards(*differences: float) -> np.ndarray:
        return np.array([[difference, 0.0] for difference in differences])

    table = {
        "a": {"a": rewards(3, 1, 1, -1), "b": rewards(1, 1)},
        "b": {"a": rewards(1, -2, 2, -1), "b": rewards(1, -3)},
        "all": {"a": rewards(1, 1, 0, 0), "b": rewards(-1, -1)},
    }
    found, contested = which_human(held, table)
    assert [(one.pool, one.model, one.pairs, one.accuracy) for one in found] == [
        ("a", "a", 4, 0.75), ("a", "b", 4, 0.5), ("a", "all", 4, 0.5), ("a", ENSEMBLE, 4, 0.5),
        ("b", "a", 2, 1.0), ("b", "b", 2, 0.5), ("b", "all", 2, 0.0), ("b", ENSEMBLE, 2, 0.5),
    ]  # fmt: skip
    # Wilson by hand for 3 of 4, z = 1.96: (0.75 + z²/8 ± z·√(0.75·0.25/4 + z²/64)) / (1 + z²/4)
    assert found[0] == PoolAccuracy("a", "a", 4, 0.75, pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))
    assert [(one.pool, one.contested, one.pairs, one.share, one.accuracy) for one in contested] == [
        ("a", False, 3, 0.75, pytest.approx(2 / 3)),
        ("a", True, 1, 0.25, 0.0),
        ("b", False, 1, 0.5, 1.0),
        ("b", True, 1, 0.5, 0.0),
    ]
    assert isinstance(contested[0], Contested)


def test_rows_of_one_pool_and_pools_without_held_out_prompts_are_refused() -> None:
    rows = [PreferenceRow(f"q{k}", "x", "y", pool="a") for k in range(50)]
    with pytest.raises(DataContractError, match="few-pools"):
        rows_of_pools(rows, 0.2)
    with pytest.raises(DataContractError, match="pool `b` has no held-out pair"):
        rows_of_pools([*rows, PreferenceRow("q0", "x", "y", pool="b")], 0.0001)
    with pytest.raises(DataContractError, match="cannot be called `all`"):
        rows_of_pools([*rows, PreferenceRow("q0", "x", "y", pool="all")], 0.2)
    assert rows_of_pools([*rows, *(PreferenceRow(f"q{k}", "y", "x", pool="b") for k in range(50))], 0.2).keys() == {
        "a", "b"
    }  # fmt: skip
