"""`headwater score` line by line, as contract.md has it."""

import argparse
import io
import json
import sys
from pathlib import Path

import pytest

from classifiers.commands import evaluate_arguments, run_evaluate, run_score, score_arguments
from classifiers.context import LOW_NAMES
from classifiers.context_features import MENTION_NAMES
from classifiers.explain import explain, spoken
from curation.errors import ConfigError

LINES = [
    '{"id": "a", "text": "You are a faggot and I hate you", "source": "x", "verdict": "mine"}',
    '{"text": "The weather is nice."}',
    "not json",
    '{"id": "c"}',
    '{"id": "d", "text": 5}',
    "[1]",
    '{"id": "e", "text": "  "}',
    "",
]


def score(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, object]], str]:
    parser = argparse.ArgumentParser()
    score_arguments(parser)
    code = run_score(parser.parse_args(list(arguments)))
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_every_line_gets_its_verdict_in_order_and_dead_lines_exit_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    code, results, err = score(capsys, "--ruleset", "curated", "--in", str(path))
    assert code == 3
    assert [row["verdict"] for row in results] == ["drop", "keep", "dead", "dead", "dead", "dead", "dead"]
    assert [row["id"] for row in results][2:] == [None, "c", "d", None, "e"]
    assert str(results[1]["id"]).startswith("hw-")
    first = results[0]
    assert first["source"] == "x"
    assert "text" not in first
    assert [(m["term"], m["role"], m["start"], m["end"]) for m in first["mentions"]] == [("faggot", "use", 10, 16)]  # type: ignore[attr-defined]
    assert first["reasons"][0] | {"value": 0} == {  # type: ignore[index]
        "code": "context.use", "signal": "context.max_use", "value": 0, "threshold": 0.7, "start": 10, "end": 16,
    }  # fmt: skip
    assert set(first["scores"]) == {"context.max_use", "context.document_use"}  # type: ignore[call-overload]
    assert [line.split(":")[1].strip() for line in err.splitlines() if line.startswith("score:")] == [
        "line 3", "line 4", "line 5", "line 6", "line 7",
    ]  # fmt: skip


def test_standard_input_is_read_and_clean_input_exits_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"id": 7, "text": "Hello there."}\n')))
    code, results, _ = score(capsys, "--ruleset", "blocklist", "--in", "-")
    assert code == 0
    assert results == [{"id": "7", "verdict": "keep", "reasons": [], "scores": {"blocklist.hits": 0}, "mentions": []}]


def test_a_redacted_text_is_shown_as_the_arm_would_carry_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ruleset = tmp_path / "m.yaml"
    ruleset.write_text("name: m\nrules:\n  - {filter: blocklist, action: mask}\n")
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a", "text": "what the fuck"}\n')
    _, results, _ = score(capsys, "--ruleset", str(ruleset), "--in", str(path))
    assert (results[0]["verdict"], results[0]["text"]) == ("redact", "what the [MASKED]")


def test_filters_restrict_the_ruleset_and_must_be_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a", "text": "Hello."}\n')
    code, results, _ = score(capsys, "--ruleset", "toxicity", "--filters", "toxicity", "--in", str(path))
    assert (code, set(results[0]["scores"])) == (0, {"toxicity.toxicity"})  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="did you mean `toxicity`"):
        score(capsys, "--ruleset", "toxicity", "--filters", "toxicty", "--in", str(path))
    with pytest.raises(ConfigError, match="unreadable-input"):
        score(capsys, "--ruleset", "toxicity", "--in", str(tmp_path / "none"))


def test_evaluate_prints_metrics_with_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labelled.jsonl"
    rows = [("You stupid idiot, shut up and die", "toxic"), ("I like the lake and the river", "clean")] * 5
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    parser = argparse.ArgumentParser()
    evaluate_arguments(parser)
    assert run_evaluate(parser.parse_args(["toxicity", "--in", str(path), "--json"])) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["rows"] == 10
    assert metrics["auroc"]["value"] == 1.0
    assert set(metrics) == {"rows", "auroc", "auprc", "recall", "false_positive_rate", "ece"}
    with pytest.raises(ConfigError, match="did you mean `toxicity`"):
        run_evaluate(parser.parse_args(["toxicty", "--in", str(path)]))
    with pytest.raises(ConfigError, match="one-class"):
        run_evaluate(parser.parse_args(["toxicity", "--in", str(path), "--positive", "x"]))


def test_one_text_is_explained_with_verdict_reason_mention_and_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    score_arguments(parser)
    text = "You are a filthy faggot and I hate you."
    code = run_score(parser.parse_args(["--text", text]))  # by `curated`, when no ruleset is named
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0] == "verdict: drop"
    assert lines[1].startswith("  because context.use: context.max_use 0.")
    assert lines[1].endswith(" at 17–23: »faggot«")
    assert lines[2].startswith("  because context.hateful: context.document_use 0.")
    assert lines[2].endswith(" at 0–38: »You are a filthy faggot and I hate you«")
    at = lines.index("mentions:")
    assert lines[at + 1] == "  [17–23] You are a filthy »faggot« and I hate you."
    assert lines[at + 2].startswith("      slur `faggot`, target gay people: use 0.")
    assert lines[at + 3].startswith("      evidence: cue ")
    assert lines[at + 3].endswith("the passage is hostile")


@pytest.mark.parametrize(
    ("cue", "words"),
    [
        ("near_hostile", "hostile words near the term"), ("low_window_hate", "little or no: hate in its passage"),
        ("low_read_use_logit", "the encoder does not read it as use"),
        ("read_quotation", "the encoder reads it as quotation"),
        ("category_slur", "its category, slur"), ("before_toxicity", "toxicity in the passage before"),
    ],
)  # fmt: skip
def test_a_cue_is_said_in_words(cue: str, words: str) -> None:
    assert spoken(cue) == words


def test_every_cue_that_a_mention_may_carry_has_words_of_its_own() -> None:
    cues = (*MENTION_NAMES, *LOW_NAMES, "guard_phrase", "other_language")
    assert [cue for cue in cues if spoken(cue) == cue or "_" in spoken(cue)] == []


def test_a_phrase_of_another_spelling_says_what_it_is_listed_under() -> None:
    mention = {
        "start": 5, "end": 19, "term": "kill all", "category": "violence", "role": "use", "score": 1.0,
        "cue": "near_hostile", "quoted": False, "framed": False,
    }  # fmt: skip
    result = {"verdict": "keep", "reasons": [], "scores": {}, "mentions": [mention]}
    assert list(explain(result, "They should be shot.")) == [
        "verdict: keep",
        "mentions:",
        "  [5–19] They »should be shot«.",
        "      violence (listed under `kill all`): use 1.00",
        "      evidence: cue near_hostile (hostile words near the term), the passage was not read by the encoder",
    ]


def test_an_empty_text_to_explain_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    score_arguments(parser)
    assert run_score(parser.parse_args(["--ruleset", "curated", "--text", " "])) == 3
    assert capsys.readouterr().err == "score: `text` is empty\n"
