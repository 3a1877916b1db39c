"""The experiment's page: verdict first, self-contained, escaped, masked until clicked, readable on a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_run import BITS, SEEDS, TOXICITY, Metric, bits, endpoint, plan_data, toxicity, write_run

from alignment.compare import compare_run
from alignment.curves import CurvePoint, write_curves
from alignment.generations import Generation, write_generations
from alignment.report import render_report, write_report
from alignment.report_endpoints import code_of
from alignment.report_figures import curves, interval_row
from alignment.report_measures import curves_section
from curation.errors import DataContractError

ARMS = ("raw", "curated", "sampled", "blocklist")
ATTACK = "<script>alert('owned')</script><img src=x onerror=alert(1)>"
ABUSE = "you are a bitch"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def effects(**known: float) -> dict[str, float]:
    return {arm: known.get(arm, 0.0) for arm in ARMS}


METRICS = [
    Metric(TOXICITY, "sft", effects(curated=-0.5, blocklist=-0.3)),
    Metric("toxicity.lexicon.maximum", "sft", effects(curated=-0.4, blocklist=-0.5)),
    Metric(TOXICITY, "pretrain", effects(curated=-0.9)),
    Metric(BITS, "pretrain", effects(blocklist=0.4)),
    Metric("bits_per_byte.aae", "pretrain", effects(blocklist=0.8)),
    Metric(TOXICITY, "benign-sft", effects(curated=0.7)),
    Metric("emotion.valence_sd", "pretrain", effects(), higher_is_better=True),
    Metric("emotion.valence_sd", "sft", effects(), level=5.0, higher_is_better=True),
]


def plan() -> dict[str, Any]:
    explored = {**endpoint("gap", "difference", TOXICITY, "sft", minus_stage="pretrain"), "role": "exploratory"}
    return {
        **plan_data(),
        "title": f"Raw & curated {ATTACK}",
        "random_control": "sampled",
        "doses": {"raw": 0.0, "blocklist": 0.5, "curated": 1.0},
        "judges": [{"question": "toxicity", "stage": "sft", "metrics": [TOXICITY, "toxicity.lexicon.maximum"]}],
        "refuted_if": [{"endpoint": "toxicity", "is": "not_superior"}],
        "endpoints": [*plan_data()["endpoints"], explored],
    }


LEFT_OUT = {"documents": 3, "tokens": 1234, "files": {"/data/<quiz>.jsonl": {"documents": 2, "items": 7}}}
JOB = {
    "perturb": [{"name": "benign", "kind": "finetune", "start": ["sft", "dpo"]}],
    "curves": [{"name": "effort", "helpful": {"metric": "harm", "margin": 0.05}}],
    "decontaminated": dict.fromkeys(ARMS, LEFT_OUT),
    "curation": {"measure": 1.5, "score": 20.0},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything that the page can show."""
    run = tmp_path_factory.mktemp("experiment") / "run"
    write_run(run, METRICS, plan())
    for arm in ARMS:
        texts = [f"{arm} {ATTACK} {ABUSE if at % 2 else 'a friend'}" for at in range(6)]
        rows = [Generation(f"p{at}", f"Prompt {at} & more", text) for at, text in enumerate(texts)]
        write_generations(run / arm / "1" / "sft" / "generations.jsonl.zst", rows)
        for seed in SEEDS:
            points = [
                CurvePoint(
                    arm, seed, curve, x, unit, "harm", sign * 0.1 * at + 0.01 * seed + (0.3 if arm == "raw" else 0)
                )
                for curve, unit, sign in (("effort", "pairs", -1), ("tamper", "steps", 1), ("mixing", "share", 1))
                for at, x in enumerate((0.0, 125.0, 500.0, 8000.0))
            ]
            write_curves(run / arm / str(seed) / "dpo" / "curves.jsonl", points)
    (run / "experiment.json").write_text(json.dumps(JOB))
    compare_run(run)
    return run


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with two metrics and nothing else."""
    run = tmp_path_factory.mktemp("bare") / "run"
    write_run(run, [toxicity(-0.5), bits()])
    for path in run.glob("*/*/*/stage.json"):
        path.unlink()
    compare_run(run)
    return render_report(run)


class Tags(HTMLParser):
    """Every tag and attribute, and that tags are closed in order."""

    VOID = frozenset({"meta", "br", "wbr", "line", "circle", "polyline", "polygon"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def headings(page: str) -> list[str]:
    return re.findall(r'<h2 id="s\d+">([^<]+)</h2>', page)


def test_the_page_is_well_formed(page: str, bare: str) -> None:
    assert Tags(page).open == Tags(bare).open == []


def test_the_verdict_comes_before_everything_else(page: str, run: Path) -> None:
    sentence = json.loads((run / "compare.json").read_text())["verdict"]["sentence"]

    assert sentence.startswith("Supported: ")
    assert page.index('<b class="answer">Supported</b>') < page.index("<table") < page.index("<footer>")
    assert page.index(code_of(sentence.removeprefix("Supported: C").removeprefix("Supported: c"))) < page.index("<h2")
    assert "Thesis, written before training:" in page[: page.index("<h2")]
    assert "<code>toxicity</code> is not shown to be better" in page[: page.index("<h2")]


@pytest.mark.parametrize(
    ("code", "effect", "title"), [("refuted", 0.9, "Refuted"), ("not_resolved", 0.0, "Not resolved")]
)
def test_a_no_is_as_loud_as_a_yes(code: str, effect: float, title: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", [toxicity(effect, of_seed=0.5), bits()])
    assert compare_run(tmp_path / "run")["verdict"]["code"] == code

    assert f'<div class="verdict {code}"><b class="answer">{title}</b>' in render_report(tmp_path / "run")


def test_sections_stand_there_for_what_the_run_has(page: str) -> None:
    assert headings(page) == [
        "Endpoints", "Arms", "Dose–response", "Alignment effort", "Tampering", "Perturbed", "Curves: mixing",
        "Flattening", "Dialects and identities", "Judges", "Samples", "Decontamination", "Cost", "Limits",
    ]  # fmt: skip
    assert re.findall(r'<a href="#(s\d+)">', page) == [f"s{at}" for at in range(14)]


def test_what_the_run_lacks_is_named_and_has_no_section(page: str, bare: str) -> None:
    assert headings(bare) == ["Endpoints", "Arms", "Limits"]
    said = re.findall(r"<li>Not in this run: (.+?)\.</li>", bare)
    assert len(said) == 11
    assert "tamper curves" in said
    assert re.findall(r"<li>Not in this run: (.+?)\.</li>", page) == ["curves of reward over distance"]
    assert "No second judge was registered" in bare
    assert "No arm that removes as much at random was registered" in bare


def section(page: str, title: str) -> str:
    return re.split(r'<h2 id="s\d+">', page.split(f">{title}</h2>")[1])[0]


def test_what_the_filters_took_stands_beside_what_training_took(page: str) -> None:
    shown = section(page, "Cost")
    assert "took 21.5 seconds (measure 1.5, score 20.0)" in shown
    assert "<td>pretrain</td>" in shown


def test_every_arm_stands_before_and_after_a_perturbation_with_the_change_of_its_seeds(page: str, run: Path) -> None:
    shown = section(page, "Perturbed")
    rows = json.loads((run / "compare.json").read_text())["arms"]
    seeds = {(row["stage"], row["arm"]): row["seeds"] for row in rows if row["metric"] == TOXICITY}
    for arm in ARMS:
        before, after = seeds["sft", arm], seeds["benign-sft", arm]
        change = [after[seed] - before[seed] for seed in before]
        assert f"{np.mean(change):+.3g} ± {np.std(change, ddof=1):.2g}" in shown
    assert "fine-tuned further" in shown
    assert "dpo" not in shown, "no score of it"


def test_effort_is_told_for_harms_that_count_only_while_the_model_stays_helpful(run: Path) -> None:
    found = json.loads((run / "compare.json").read_text())
    harm = [CurvePoint(arm, s, "effort", x, "rows", "harm", 0.9 - x / 500 + 0.1 * (arm == "raw"))
            for arm in ("raw", "curated") for s in (1, 2) for x in (0.0, 100.0, 300.0)]  # fmt: skip
    bits = [replace(p, metric="bits", value=1.0 + p.x / 1000) for p in harm]
    asked = {**found, "helpful": {"effort": {"metric": "bits", "margin": 0.2}}}

    shown = curves_section([*harm, *bits], "effort", asked)

    assert "rows to bring <code>harm</code> down" in re.sub("<wbr>", "", shown)
    assert "rows to bring <code>bits</code> down" not in re.sub("<wbr>", "", shown)
    assert "lost at most 0.2" in shown
    assert "300" not in re.sub(r"<svg.*?</svg>", "", shown, flags=re.S), "the third dose costs 0.3 bits"


def test_tampering_says_when_each_arm_is_where_the_control_was(page: str) -> None:
    """Harm rises by 0.1 a dose; raw begins 0.3 above the others, which are there at the fourth."""
    shown = re.sub(r"<[^>]+>", " ", section(page, "Tampering"))

    assert "steps until" in shown
    assert re.search(r"raw\s+0\s+6 of 6", shown)
    for arm in ARMS[1:]:
        assert re.search(rf"{arm}\s+(8,000|never)\s+\d of 6", shown), arm


def test_what_was_left_out_of_all_arms_is_counted_file_by_file(page: str) -> None:
    shown = re.sub(r"<[^>]+>", " ", section(page, "Decontamination"))

    assert re.search(r"&lt;quiz&gt;\.jsonl\s+7\s+2\s+2\s+2\s+2", shown)
    assert re.search(r"curated\s+3\s+1,234", shown)
    assert "/data" not in shown


def test_what_comes_from_data_is_text_on_the_page(page: str) -> None:
    tags = Tags(page)

    assert tags.seen & {"script", "img"} == set()
    assert "&lt;script&gt;alert(&#x27;owned&#x27;)&lt;/script&gt;" in page
    assert "Raw &amp; curated" in page


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    tags = Tags(page)

    assert tags.seen & {"link", "iframe", "object", "embed", "base", "form"} == set()
    assert [value for name, value in tags.attributes if name in {"src", "srcset", "action", "data"}] == []
    assert [value for name, value in tags.attributes if name == "href" and not value.startswith("#")] == []
    assert [name for name, _ in tags.attributes if name.startswith("on")] == []
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_abuse_is_masked_until_a_click_opens_it(page: str) -> None:
    assert page.count("you are a b****") == page.count(ABUSE) == 3 * len(ARMS)
    outside = re.sub(r'</summary><div class="text" dir="auto">.*?</div></details>', "", page)
    assert ABUSE not in outside
    assert "a friend</div>" in page  # a text without abuse is simply there


def test_a_page_to_publish_holds_no_masked_text_at_all(run: Path) -> None:
    published = render_report(run, reveal=False)

    assert ABUSE not in published
    assert "you are a b****" in published
    assert "what is masked is not in this page" in published


def test_every_endpoint_shows_interval_p_and_what_was_detectable(page: str, run: Path) -> None:
    for row in json.loads((run / "compare.json").read_text())["endpoints"]:
        part = page[page.index(f"<b>{row['name']}</b>") :]
        part = part[: part.index("</details>")]
        assert '<svg class="forest"' in part
        assert f"{row['low']:+.3g} to {row['high']:+.3g}" in part
        assert f"with 80 % power: {row['mde']:.3g}" in part
        assert f"p {(row['margin_test'] or row)['p']:.3g} (least" in part
        assert part.count("<tr>") == 1 + len(SEEDS)


def test_better_lies_on_the_right_whatever_the_metric(page: str) -> None:
    """Toxicity went down and that is better: the dot is right of the middle, coloured as better."""
    row = page[page.index("<b>toxicity</b>") :]
    dot = re.search(r'<circle class="(\w+)" cx="([\d.]+)"', row)

    assert dot is not None
    assert dot.group(1) == "over"
    assert float(dot.group(2)) > 160


def test_the_page_names_neither_the_machine_nor_the_clock(page: str, run: Path) -> None:
    assert str(run.parent) not in page
    assert not re.search(r"\b20\d\d-\d\d-\d\d", page)


def test_the_same_run_elsewhere_gives_the_same_page(page: str, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "moved")

    assert render_report(tmp_path / "moved") == page


def test_a_run_that_was_not_compared_has_no_page(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [toxicity(-0.5), bits()])
    with pytest.raises(DataContractError, match="was not compared"):
        write_report(tmp_path / "run")
    (tmp_path / "run" / "compare.json").write_text('{"kind": "compare", "schema_version": 0}')
    with pytest.raises(DataContractError, match="another version"):
        write_report(tmp_path / "run")


def test_an_open_interval_reaches_the_edge_and_has_no_end_mark() -> None:
    closed, opened = interval_row(1.0, 0.5, 1.5, None, "over", "t"), interval_row(1.0, 0.5, None, None, "over", "t")

    assert closed.count("<line") - opened.count("<line") == 1
    assert 'x2="320.0"' in opened
    assert interval_row(0.0, None, None, None, "even", "t").count("<circle") == 1


def test_curves_with_a_wide_range_are_drawn_on_a_logarithmic_axis_that_has_zero() -> None:
    lines = {"raw": [[(0.0, 1.0, 0.9, 1.1), (100.0, 0.5, 0.4, 0.6), (10_000.0, 0.2, 0.2, 0.2)]]}
    xs = [float(x) for x in re.findall(r'<circle class="s0" cx="([\d.]+)"', curves(lines, "pairs", "t", ["raw"]))]
    even = [float(x) for x in re.findall(
        r'<circle class="s0" cx="([\d.]+)"',
        curves({"raw": [[(0.0, 1, 1, 1), (1.0, 1, 1, 1), (2.0, 1, 1, 1)]]}, "pairs", "t", ["raw"]),
    )]  # fmt: skip

    assert xs[0] == 52.0
    assert xs[2] == 330.0
    assert xs[1] == pytest.approx(52 + 278 * np.log(2) / np.log(101), abs=0.1)
    assert even == [52.0, 191.0, 330.0]
    assert curves({}, "pairs", "t", ["raw"]) == ""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_a_browser_shows_the_page_without_sideways_scrolling(width: int, run: Path, page: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        f"<iframe id=f src=page.html style='width:{width}px;height:900px;border:0'></iframe><p id=o></p><script>"
        "f.onload = () => {const d = f.contentDocument; d.querySelectorAll('details').forEach(x => x.open = true);"
        "const r = d.documentElement, parts = d.querySelectorAll('h2').length;"
        "o.textContent = [r.scrollWidth - r.clientWidth, parts].join(' ')}</script>"
    )
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", f"file://{tmp_path}/frame.html",
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    seen = re.search(r'<p id="o">(-?\d+) (\d+)</p>', done.stdout)
    if seen is None:
        pytest.skip(f"Chromium cannot run here: {done.stderr[-200:]}")

    assert (int(seen.group(1)), int(seen.group(2))) == (0, 14)
