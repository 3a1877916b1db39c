"""`headwater feedback`: links that work, and mistakes that are named before anything is served."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette")

from feedback_cases import browser, joined, ranking, ranks_of, store_of

from alignment.feedback.commands import feedback_arguments, run_feedback
from curation.errors import ConfigError, HeadwaterError


def command(*given: object) -> int:
    parser = argparse.ArgumentParser()
    feedback_arguments(parser)
    return run_feedback(parser.parse_args([str(one) for one in given]))


def test_each_printed_invitation_lets_one_person_of_its_pool_in(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(place, ranking("one"))
    url = "https://feedback.example.org/"
    assert command("invite", place, "--invite", "north=2", "--invite", "south", "--url", url) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [pool for pool, _ in printed] == ["north", "north", "south"]
    assert all(address.startswith("https://feedback.example.org/join/") for _, address in printed)
    for _, address in printed:
        joined(store, urlsplit(address).path)
    assert sorted(store.annotators().values()) == ["north", "north", "south"]


def test_export_prints_its_folder_or_the_card(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(place, ranking("one"))
    assert command("invite", place, "--invite", "north") == 0
    client = joined(store, urlsplit(capsys.readouterr().out.split("\t")[1].strip()).path)
    client.post("/answer", data=ranks_of(client.get("/").text, [1, 2, 3, 4]))
    out = tmp_path / "out"
    assert command("export", place, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert command("export", place, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "card.json").read_text())


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (["--invite", "North"], "bad-value"),
        (["--invite", "admin"], "bad-value"),
        (["--invite", "north=two"], "bad-value"),
        (["--days", "0"], "bad-value"),
        (["--days", "nan"], "bad-value"),
        (["--overlap", "2"], "bad-value"),
        (["--per-item", "0"], "bad-value"),
        (["--items", "missing.jsonl"], "no-file"),
        (["--guidelines", "missing.txt"], "no-file"),
        ([], "no-guidelines"),
    ],
)
def test_a_mistake_is_named_before_anything_is_served(tmp_path: Path, extra: list[str], code: str) -> None:
    with pytest.raises(ConfigError, match=rf"error\[{code}\]"):
        command("serve", tmp_path / "new.db", "--port", "0", *extra)
    assert not (tmp_path / "new.db").exists()


def test_revoke_lists_invitations_and_withdraws_those_named(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(place, ranking("one"))
    assert command("invite", place, "--invite", "north=2", "--invite", "south") == 0
    links = [urlsplit(line.split("\t")[1]).path for line in capsys.readouterr().out.splitlines()]
    client = joined(store, links[0])
    assert command("revoke", place) == 0
    listed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    (who,) = store.annotators()
    assert [row[1:] for row in listed if row[2] == who] == [["north", who, "0", "joined"]]
    others = [row for row in listed if row[2] != who]
    assert [row[1:] for row in others] == [["north", "-", "0", "open"], ["south", "-", "0", "open"]]
    assert command("revoke", place, who, others[0][0]) == 0
    assert [one.state for one in store.invitations()] == ["revoked", "revoked", "open"]
    assert client.get("/").status_code == 403
    assert [browser(store).get(path).status_code for path in links] == [403, 403, 200]
    with pytest.raises(ConfigError, match=r"error\[no-invitation\].*north-nobody"):
        command("revoke", place, "north-nobody")


def test_a_port_in_use_is_named(place: str) -> None:
    import socket

    store = store_of(place, ranking("one"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(HeadwaterError, match="no-port"):
        command("serve", place, "--port", taken.getsockname()[1])
    assert browser(store).get("/").status_code == 403
