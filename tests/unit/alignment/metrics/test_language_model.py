"""Log-likelihoods against single passes and against lm-evaluation-harness; bits of documents; sampling."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from alignment.export_lm_eval import export_lm_eval
from alignment.metrics import METRICS
from alignment.metrics import language_model as lm
from alignment.metrics.language_model import LanguageModel, Sampling
from alignment.model import new_model
from curation.errors import ConfigError, DataContractError
from tests.unit.alignment.tiny import tiny_tokenizer

WORDS = "the river bends towards a town where people speak of rain and of the long summer".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(*parts())


def parts(context: int = 64) -> tuple[object, object]:
    tokenizer = tiny_tokenizer()
    ids = {"pad": tokenizer.pad_token_id, "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    return new_model("160k", len(tokenizer), ids, seed=3, context=context), tokenizer


def alone(model: LanguageModel, context: str, continuation: str) -> float:
    """Log-probability of a continuation, one token after the other, nothing padded."""
    head, tail = model.encode_pair(context, continuation)
    total = 0.0
    for k, wanted in enumerate(tail):
        ids = torch.tensor([head + tail[:k]])
        with torch.inference_mode():
            total += float(model.model(input_ids=ids).logits[0, -1].log_softmax(-1)[wanted])
    return total


PAIRS = [
    ("the river", " bends towards a town"),
    ("", "people speak of rain"),
    ("a town where people ", "speak"),
    ("of the long summer and of rain and of the river", " ends"),
]


def test_a_batch_gives_what_each_row_gives_alone(model: LanguageModel) -> None:
    found = model.likelihoods(PAIRS)

    assert [answer.nats for answer in found] == pytest.approx([alone(model, *pair) for pair in PAIRS], abs=1e-4)
    assert [answer.tokens for answer in found] == [len(model.encode_pair(*pair)[1]) for pair in PAIRS]
    assert [answer.bytes for answer in found] == [len(text) for _, text in PAIRS]


def test_the_size_of_batches_changes_nothing(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [answer.nats for answer in model.likelihoods(PAIRS)]
    monkeypatch.setattr(lm, "BATCH_TOKENS", 1)  # every row on its own

    assert [answer.nats for answer in model.likelihoods(PAIRS)] == pytest.approx(whole, abs=1e-4)


def test_greedy_is_true_where_every_token_is_the_likeliest(model: LanguageModel) -> None:
    ids = model.encode_pair("the river", " x")[0]
    with torch.inference_mode():
        likeliest = int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    nats, greedy = model._score([([*ids, likeliest], 1), ([*ids, (likeliest + 1) % 300], 1)])

    assert greedy == [True, False]
    assert nats[0] > nats[1]


def test_a_context_that_is_too_long_loses_its_beginning(model: LanguageModel) -> None:
    long = " ".join(WORDS * 20)
    head, tail = model.encode_pair(long, " rain")
    kept = (head + tail)[-(model.context + 1) :]
    with torch.inference_mode():
        log_p = model.model(input_ids=torch.tensor([kept[:-1]])).logits[0].log_softmax(-1)
    by_hand = sum(float(log_p[len(kept) - 1 - len(tail) + k, wanted]) for k, wanted in enumerate(tail))

    assert model.likelihoods([(long, " rain")])[0].nats == pytest.approx(by_hand, abs=1e-4)


def test_a_continuation_without_tokens_or_longer_than_the_model_is_refused(model: LanguageModel) -> None:
    for continuation in ("", " ".join(WORDS * 40)):
        with pytest.raises(ConfigError, match="1 to 64 tokens"):
            model.likelihoods([("the river", continuation)])


def test_bits_of_a_document_count_each_token_once_in_windows(model: LanguageModel) -> None:
    text = " ".join(WORDS * 9)
    ids = [model.start, *model.ids(text)]
    assert len(ids) > 2 * model.context
    total = 0.0
    for first in range(0, len(ids) - 1, model.context):
        window = ids[first : first + model.context + 1]
        with torch.inference_mode():
            log_p = model.model(input_ids=torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
        total += sum(float(log_p[k, wanted]) for k, wanted in enumerate(window[1:]))

    assert model.bits_per_byte([text, "rain"])[0] == pytest.approx(-total / math.log(2) / len(text), rel=1e-5)


def test_a_broken_model_is_an_error_and_not_a_number(model: LanguageModel) -> None:
    broken, tokenizer = parts()
    with torch.no_grad():
        broken.get_input_embeddings().weight.fill_(float("nan"))  # type: ignore[attr-defined]

    with pytest.raises(DataContractError, match="not finite"):
        LanguageModel(broken, tokenizer).likelihoods(PAIRS)


def test_samples_depend_on_the_seed_alone(model: LanguageModel) -> None:
    prompts, how = ["the river", "people speak of"], Sampling(new_tokens=8)
    first = model.sample(prompts, 3, seed=1, how=how)
    torch.manual_seed(99)

    assert model.sample(prompts, 3, seed=1, how=how) == first
    assert model.sample(prompts, 3, seed=2, how=how) != first
    assert [len(texts) for texts in first] == [3, 3]
    assert len(set(first[0])) > 1


def test_at_temperature_zero_the_likeliest_token_follows(model: LanguageModel) -> None:
    text = model.sample(["the river"], 1, seed=1, how=Sampling(new_tokens=1, temperature=0.0))[0][0]
    with torch.inference_mode():
        ids = [model.start, *model.ids("the river")]
        likeliest = int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())

    assert text == model.tokenizer.decode([likeliest], skip_special_tokens=True)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    rows = {
        "hellaswag": [
            {"id": f"h{k}", "query": " ".join(WORDS[k : k + 4]), "choices": WORDS[k + 1 : k + 5], "gold": k % 4}
            for k in range(8)
        ],
        "blimp": [
            {"id": f"b{k}", "UID": "u", "sentence_good": " ".join(WORDS[: k + 3]),
             "sentence_bad": " ".join(WORDS[k + 2 :: -1])}
            for k in range(8)
        ],
    }  # fmt: skip
    for name, found in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return {name: tmp_path / f"{name}.jsonl" for name in rows}


def test_two_tasks_score_as_lm_evaluation_harness_scores_them(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs the extra `oracle`")
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    causal, tokenizer = parts()
    ours = LanguageModel(causal, tokenizer)
    settings = {name: METRICS.get(name).settings(data=str(path)) for name, path in files.items()}  # type: ignore[call-arg]
    tasks = export_lm_eval(settings, tmp_path / "tasks")
    theirs = lm_eval.simple_evaluate(
        # Its cache takes requests for one when their ids are the same, wherever the continuation begins in them.
        HFLM(pretrained=causal, tokenizer=tokenizer, batch_size=3, device="cpu", max_length=64, logits_cache=False),
        tasks=tasks,
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )

    for name, task in zip(files, tasks, strict=True):
        definition = METRICS.get(name)
        scores = definition.measure(ours, settings[name])
        assert definition.questions is not None
        questions = {question.item_id: question for question in definition.questions(settings[name])}
        assert len(theirs["samples"][task]) == len(questions) == 8
        for sample in theirs["samples"][task]:
            question = questions[sample["doc"]["id"]]
            mine = ours.likelihoods([(question.contexts[0], choice) for choice in question.choices])
            assert [answer.nats for answer in mine] == pytest.approx(
                [float(answer[0][0]) for answer in sample["resps"]], abs=1e-4
            )
            assert [answer.greedy for answer in mine] == [str(answer[0][1]) == "True" for answer in sample["resps"]]
        accuracy = sum(item.value for item in scores[f"{name}.accuracy"]) / 8
        assert theirs["results"][task]["acc,none"] == pytest.approx(accuracy)
