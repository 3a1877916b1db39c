"""A real server: what it has acknowledged survives SIGKILL; a real browser needs nothing but its keyboard."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from postgres_server import PASSWORD

from alignment.feedback.store import Store

pytestmark = pytest.mark.integration
SERVE = (
    "import argparse, sys; from alignment.feedback.commands import feedback_arguments, run_feedback;"
    "parser = argparse.ArgumentParser(); feedback_arguments(parser);"
    "sys.exit(run_feedback(parser.parse_args()))"
)
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store may stand."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.db")
    return str(request.getfixturevalue("postgres").new_database())


@contextmanager
def server(
    place: str, folder: Path, items: int, annotators: int, log: Path
) -> Iterator[tuple[subprocess.Popen[str], list[str], str]]:
    """A server process over new items that everybody answers, its invitation links and the admin's."""
    texts = [f"{SCRIPT} {k}" for k in range(5)]
    lines = [json.dumps({"id": f"i{n}", "prompt": f"prompt {n} {SCRIPT}", "responses": texts}) for n in range(items)]
    (folder / "items.jsonl").write_text("\n".join(lines))
    (folder / "guidelines.txt").write_text("Prefer the true answer.")
    arguments = [place, "--items", folder / "items.jsonl", "--guidelines", folder / "guidelines.txt"]
    command = [sys.executable, "-c", SERVE, "serve", *map(str, arguments), "--overlap", "1", "--port", "0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, "--invite", f"north={annotators}"], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            links = [process.stdout.readline().split("\t") for _ in range(annotators + 1)]
            assert [role for role, _ in links] == ["admin"] + ["north"] * annotators
            yield process, [url.strip() for _, url in links[1:]], links[0][1].strip()
        finally:
            process.kill()


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return found[1]


def test_no_acknowledged_answer_of_fifty_annotators_is_lost_when_the_server_is_killed(
    place: str, tmp_path: Path
) -> None:
    http = pytest.importorskip("httpx2")
    log = tmp_path / "log.txt"
    acknowledged: list[tuple[str, tuple[int, ...]]] = []  # item, ranks in the order of the page
    enough = threading.Event()

    def annotate(link: str, first: int) -> None:
        with http.Client(follow_redirects=True, timeout=30) as client:
            page = client.post(link, data={"form_token": hidden(client.get(link).text, "form_token")}).text
            base = link.split("/join/")[0]
            while "Save and go on" in page:
                form = {name: hidden(page, name) for name in ("form_token", "item", "guidelines")}
                ranks = tuple((first + k + len(acknowledged)) % 5 + 1 for k in range(5))
                form |= {f"rank_{letter}": str(rank) for letter, rank in zip("ABCDE", ranks, strict=True)}
                form |= {f"rating_{letter}": "3" for letter in "ABCDE"}
                if client.post(f"{base}/answer", data=form, follow_redirects=False).status_code == 303:
                    acknowledged.append((form["item"], ranks))
                    if len(acknowledged) >= 200:
                        enough.set()
                page = client.get(base + "/").text

    def until_it_dies(link: str, first: int) -> None:
        try:
            annotate(link, first)
        except http.TransportError:
            return  # the server is gone

    with server(place, tmp_path, items=12, annotators=50, log=log) as (process, links, _):
        threads = [threading.Thread(target=until_it_dies, args=(link, n)) for n, link in enumerate(links)]
        for thread in threads:
            thread.start()
        assert enough.wait(240)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(60)
    kept = [
        (answer.item, tuple(answer.body["ranks"][k] for k in answer.body["shown"])) for answer in Store(place).answers()
    ]
    assert 200 <= len(acknowledged) <= len(kept) < 600  # killed on the way
    assert Counter(acknowledged) - Counter(kept) == Counter()
    assert len(kept) <= len(acknowledged) + len(links)  # one a person may have been on its way
    said = log.read_text()
    assert "POST /answer 303" in said
    assert all(secret not in said for secret in [PASSWORD, *(link.split("/join/")[1] for link in links)])


def ready(page: Any, done: int) -> None:
    """Wait for the page after so many answers, its script included: it moves the focus to the first response."""
    page.wait_for_selector(f"text={done} of 6 answered")
    page.wait_for_selector('.card[data-letter="A"]:focus')


def test_five_items_by_keyboard_alone_then_the_sixth_after_the_tab_was_closed(place: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("the browser `chromium` is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with (
        server(place, tmp_path, items=6, annotators=1, log=tmp_path / "log.txt") as (_, (link,), admin),
        playwright.sync_playwright() as tools,
    ):
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        phone = browser.new_context(viewport={"width": 360, "height": 740})
        page = phone.new_page()
        page.goto(link)
        while page.evaluate("document.activeElement.textContent") != "Begin":
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        for done in range(5):
            ready(page, done)
            page.keyboard.press("g")
            assert page.locator("dialog[open]").inner_text().count("Prefer the true answer.") == 1
            page.keyboard.press("Escape")
            for at, (rank, rating) in enumerate(zip("31245", "qwert", strict=True)):
                page.keyboard.press("j") if at else None
                page.keyboard.press(rank)
                page.keyboard.press(rating)
            page.keyboard.press("v")  # the last response refuses needlessly
            page.keyboard.press("Enter")
        ready(page, 5)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.title() == "Item 6 of 6"  # no text of a model or prompt was run
        page.close()
        again = phone.new_page()
        again.goto(link.split("/join/")[0])
        ready(again, 5)
        sixth = again.locator('input[name="item"]').get_attribute("value")
        again.keyboard.press("u")
        ready(again, 4)
        again.keyboard.press("Enter")  # filled in as it was
        ready(again, 5)
        office = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
        office.goto(admin)
        office.get_by_role("button", name="Begin").click()
        office.wait_for_selector("table")
        office.wait_for_load_state()  # before its style sheet is there, the page is wider than a phone
        assert office.evaluate("document.documentElement.scrollWidth <= innerWidth")
        office.get_by_role("button", name="Revoke north-").click()
        office.wait_for_selector("td:has-text('revoked')")
        again.reload()
        assert "Open your invitation link first." in again.content()
        browser.close()
    answers = Store(place).answers()
    assert {answer.item for answer in answers} | {sixth} == {f"i{n}" for n in range(6)}
    for answer in answers:
        shown = answer.body["shown"]
        assert [answer.body["ranks"][k] for k in shown] == [3, 1, 2, 4, 5]
        assert [answer.body["ratings"][k] for k in shown] == [1, 2, 3, 4, 5]
        assert [answer.body["flags"][k] for k in shown] == [[], [], [], [], ["refuses_needlessly"]]
