"""Training texts and, where torch is installed, the encoder's losses, batches and base weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from classifiers import stack_examples
from classifiers.encoder_data import SOME_MENTION, EncoderSet, LabelRule, load_training_texts, mention_label
from classifiers.encoder_job import EncoderJob
from classifiers.logistic import Table, fit_logistic
from classifiers.windows import WindowSettings
from curation.errors import ConfigError

ROWS = [
    {"id": 1, "text": "That kike again.", "label": "hate", "tags": ["A"]},
    {"id": 2, "text": "Do not say kike, it hurts.", "label": "fine", "tags": ["B"]},
    {"id": 3, "text": "What is this?", "label": "unsure", "tags": ["A", "C"]},
]


def write(folder: Path) -> Path:
    path = folder / "set.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n", encoding="utf-8")
    return path


def test_a_set_s_own_labels_become_the_three_heads_and_the_roles_of_its_mentions(tmp_path: Path) -> None:
    write(tmp_path)
    spec = EncoderSet(
        path="set.jsonl", licence="MIT", fold=2, hate=LabelRule(positive=("hate",), negative=("fine",)),
        toxic=LabelRule(field="tags", positive=("A",), negative=("B",)),
    )  # fmt: skip
    found = {t.id: t for t in load_training_texts([spec], tmp_path, 1, WindowSettings())}
    assert {i: [None if np.isnan(v) else float(v) for v in t.labels] for i, t in found.items()} == {
        "1": [1.0, 1.0, None], "2": [0.0, 0.0, None], "3": [1.0, None, None],
    }  # fmt: skip
    assert [(found[i].text[slice(*found[i].spans[0])], found[i].roles) for i in ("1", "2")] == [
        ("kike", (0,)), ("kike", (SOME_MENTION,)),
    ]  # fmt: skip
    assert {t.fold for t in found.values()} == {2}


def test_ordinary_text_with_a_demeaning_term_is_not_taken_for_clean(tmp_path: Path) -> None:
    write(tmp_path)
    spec = EncoderSet(path="set.jsonl", licence="MIT", clean=True)
    assert [t.text for t in load_training_texts([spec], tmp_path, 1, WindowSettings())] == ["What is this?"]


@pytest.mark.parametrize(
    ("category", "labels", "role"),
    [
        ("slur", (1, 1, 0), 0), ("slur", (1, 0, 0), SOME_MENTION), ("slur", (1, np.nan, 0), None),
        ("slur", (1, 1, 1), SOME_MENTION), ("insult", (1, 0, np.nan), 0), ("insult", (0, 0, np.nan), SOME_MENTION),
        ("profanity", (1, 1, 0), None),
    ],
)  # fmt: skip
def test_what_a_text_s_labels_say_of_a_term(category: str, labels: tuple[float, ...], role: int | None) -> None:
    assert mention_label(category, np.array(labels, np.float32)) == role


def test_a_small_source_weighs_as_its_rows_and_a_large_one_is_capped() -> None:
    x = np.random.default_rng(0).normal(size=(5000, 2))
    y = (x[:, 0] > 0).astype(np.int64)
    source = np.array(["big"] * 4900 + ["small"] * 100)
    table = Table(x, y, source, np.zeros(5000, bool))
    weight = table.weights()
    for name, label in (("big", 0), ("big", 1), ("small", 0), ("small", 1)):
        mine = (source == name) & (y == label)
        assert weight[mine].sum() == pytest.approx(min(800.0, mine.sum()))
    model = fit_logistic(x, y, weight, 2)
    assert ((model.logits(x)[:, 0] > 0) == (y == 1)).mean() > 0.98


def test_batches_hold_every_row_once_within_the_budget_and_of_like_length() -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from classifiers.fit_encoder import batches

    sizes = np.random.default_rng(3).integers(3, 90, 500).tolist()
    found = batches(sizes, 600, np.random.default_rng(1))
    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    assert all(len(part) * max(sizes[k] for k in part) <= 700 for part in found)
    assert max(max(sizes[k] for k in part) - min(sizes[k] for k in part) for part in found) <= 15


def test_losses_agree_with_the_formulas_by_hand() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from classifiers.fit_encoder import role_loss, text_loss

    logits = torch.zeros(8, 3)
    labels = torch.tensor([[1.0, float("nan"), 0.0]] * 8)
    assert float(text_loss(logits, labels)) == pytest.approx(2 * np.log(2))
    role = torch.zeros(1, 4, 6)
    mentions = [(0, 1, 2, 0)] * 4 + [(0, 1, 3, SOME_MENTION)] * 4
    assert float(role_loss(role, mentions)) == pytest.approx((4 * np.log(6) + 4 * -np.log(5 / 6)) / 8, rel=1e-5)


def test_a_base_model_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from classifiers.encoder_net import base_folder

    with pytest.raises(ConfigError, match="no-model"):
        base_folder(str(tmp_path))


def test_the_mean_of_models_is_that_of_their_weights_and_wants_every_fold(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from safetensors.torch import save_file

    from classifiers.fit_encoder import mean_of

    paths = [tmp_path / "fold0.safetensors", tmp_path / "fold1.safetensors"]
    for k, path in enumerate(paths):
        save_file({"w": torch.full((2,), 3.0 * k), "positions": torch.tensor([0, 1])}, path)
    found = mean_of(paths)
    assert {name: value.tolist() for name, value in found.items()} == {"w": [1.5, 1.5], "positions": [0, 1]}
    with pytest.raises(ConfigError, match=r"(?s)no-model.*fold2"):
        mean_of([*paths, tmp_path / "fold2.safetensors"])


def test_whole_ordinary_posts_that_swear_and_demean_nobody_are_documents_without_hate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_examples, "TEXTS_PER_SET", 0)
    texts = ["What the fuck,\n\nmy bus is late.", "A quiet day.", "You fucking kike.", "This damn shit again."]
    rows = [{"id": k, "text": text} for k, text in enumerate(texts)]
    (tmp_path / "posts.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    spec = EncoderSet(path="posts.jsonl", licence="PDDL 1.0", clean=True, limit=0)
    job = EncoderJob(
        kind="fit", classifier="context", data=str(tmp_path), output="", work="", sets=(spec,), budget_sets=("x",)
    )
    found = sorted(stack_examples.rude_documents(job), key=lambda e: e.text)
    assert [(e.text, e.hate, e.source, e.fold) for e in found] == [
        (texts[3], 0.0, "rude/posts", stack_examples.FINAL), (texts[0], 0.0, "rude/posts", stack_examples.FINAL),
    ]  # fmt: skip
    assert all(np.isnan(e.toxic) for e in found)
