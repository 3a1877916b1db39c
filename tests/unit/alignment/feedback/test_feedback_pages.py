"""The pages over HTTP: each promise they make to an annotator, and each that they make about strangers."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from feedback_cases import SCRIPT, browser, field, joined, link, pair, ranking, ranks_of, store_of

from alignment.feedback.items import Item
from alignment.feedback.security import Signer, token_sha256
from alignment.feedback.web import BODY_LIMIT, WebSettings


def test_a_ranking_with_ties_ratings_and_flags_is_kept_in_the_items_own_order(place: str) -> None:
    item = ranking("one", 5)
    store = store_of(place, item)
    client = joined(store, link(store))
    form = ranks_of(client.get("/").text, [2, 1, 2, 5, 4], [3, 5, 3, 1, 2]) | {"flag_D": ["untrue", "toxic"]}
    assert "Nothing is waiting" in client.post("/answer", data=form).text
    (answer,) = store.answers()
    a, b, c, d, e = shown = item.order_for(answer.annotator)
    assert answer.body["shown"] == shown
    assert [answer.body["ranks"][k] for k in (a, b, c, d, e)] == [2, 1, 2, 5, 4]
    assert [answer.body["ratings"][k] for k in (a, b, c, d, e)] == [3, 5, 3, 1, 2]
    assert [answer.body["flags"][k] for k in (a, b, c, d, e)] == [[], [], [], ["toxic", "untrue"], []]
    assert (answer.pool, answer.guidelines, answer.item) == ("north", "1", "one")


@pytest.mark.parametrize(("choice", "side", "strength"), [(1, 0, 0), (4, 0, 3), (5, 1, 3), (8, 1, 0)])
def test_a_pair_is_chosen_on_a_scale_below_its_dialogue(place: str, choice: int, side: int, strength: int) -> None:
    item = pair("talk")
    store = store_of(place, item)
    client = joined(store, link(store))
    page = client.get("/").text
    assert "talk question" in page
    assert "earlier turn" in page
    form = {name: field(page, name) for name in ("form_token", "item", "guidelines")} | {"choice": str(choice)}
    client.post("/answer", data=form)
    (answer,) = store.answers()
    assert answer.body["better"] == item.order_for(answer.annotator)[side]
    assert answer.body["strength"] == strength


def test_pages_are_blind_and_each_annotator_has_an_own_lasting_order(place: str) -> None:
    items = [ranking(f"i{n}", 6) for n in range(3)]
    store = store_of(place, *items)
    clients = [joined(store, link(store)) for _ in range(6)]
    pages = [client.get("/").text for client in clients]
    assert all("secret-model" not in page for page in pages)
    assert [client.get("/").text for client in clients] == pages
    orders = {tuple(items[0].order_for(who)) for who in store.annotators()}
    assert len(orders) > 1


def test_progress_undo_and_the_place_where_one_left_off(place: str) -> None:
    store = store_of(place, *(ranking(f"i{n}") for n in range(3)))
    path = link(store)
    client = joined(store, path)
    first = client.get("/").text
    second = client.post("/answer", data=ranks_of(first, [4, 3, 2, 1])).text
    assert "1 of 3 answered" in second
    assert field(second, "item") != field(first, "item")
    again = joined(store, path)  # another browser, the same link
    assert field(again.get("/").text, "item") == field(second, "item")
    assert len(store.annotators()) == 1
    back = client.post("/undo", data={"form_token": field(second, "form_token")}).text
    assert field(back, "item") == field(first, "item")
    assert 'name="rank_A" value="4" required checked' in back
    assert store.answers() == []


def test_an_answer_given_twice_stands_once_and_the_earlier_one_is_kept_as_undone(place: str) -> None:
    store = store_of(place, ranking("one"))
    client = joined(store, link(store))
    page = client.get("/").text
    client.post("/answer", data=ranks_of(page, [1, 2, 3, 4]))
    client.post("/answer", data=ranks_of(page, [4, 3, 2, 1]))
    (answer,) = store.answers()
    assert [answer.body["ranks"][k] for k in answer.body["shown"]] == [4, 3, 2, 1]
    rows = store.db.all("SELECT undone IS NULL FROM answers ORDER BY number")
    assert [bool(row[0]) for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rank_B": ""}, "a rank for response B"),
        ({"rank_B": "5"}, "a rank for response B"),
        ({"rank_B": "²"}, "a rank for response B"),
        ({"rating_C": "0"}, "a quality for response C"),
        ({"item": "nobody"}, "not one of ours"),
        ({"guidelines": "9"}, "not one of ours"),
    ],
)
def test_half_an_answer_is_refused_with_what_is_missing(place: str, change: dict[str, str], text: str) -> None:
    store = store_of(place, ranking("one"))
    client = joined(store, link(store))
    response = client.post("/answer", data=ranks_of(client.get("/").text, [1, 2, 3, 4]) | change)
    assert (response.status_code, text in response.text) == (422, True)
    assert store.answers() == []


def test_a_forged_an_expired_and_an_unknown_link_get_in_nowhere(place: str) -> None:
    store = store_of(place, ranking("one"))
    good = link(store)
    late = time.time() + 3600
    unknown = "/join/" + Signer(store.secret).link("annotator", late)  # signed by us, never handed out
    forged = Signer("another key").link("annotator", late)
    store.add_invitation(
        token_sha256(forged), "annotator", "north", late
    )  # its hash is known, its signature is not ours
    swapped = Signer(store.secret).link("annotator", late)
    store.add_invitation(token_sha256(swapped), "admin", "", late)
    bad = [link(store, days=-1), unknown, f"/join/{forged}", f"/join/{swapped}", good[:-1], good + "A", "/join/x"]
    for path in bad:
        client = browser(store)
        token = field(client.get(good).text, "form_token")
        assert client.get(path).status_code == 403, path
        assert client.post(path, data={"form_token": token}).status_code == 403, path
        for page in ("/", "/guidelines", "/admin"):
            assert client.get(page).status_code == 403
    assert store.annotators() == {}


def test_a_signed_link_that_expired_is_refused_even_when_the_store_says_otherwise(place: str) -> None:
    store = store_of(place, ranking("one"))
    token = Signer(store.secret).link("annotator", time.time() - 5)
    store.add_invitation(token_sha256(token), "annotator", "north", time.time() + 3600)
    assert browser(store).get(f"/join/{token}").status_code == 403


def test_a_forged_session_is_nobody_and_an_annotator_is_no_admin(place: str) -> None:
    store = store_of(place, ranking("one"))
    client = joined(store, link(store))
    assert client.get("/admin").status_code == 403
    cookie = client.cookies["headwater_feedback"]
    stranger = browser(store)
    stranger.cookies.set("headwater_feedback", cookie[:-2] + ("AA" if cookie[-2:] != "AA" else "BB"))
    assert stranger.get("/").status_code == 403


def test_a_session_whose_invitation_is_revoked_gets_in_nowhere_and_its_answers_stand(place: str) -> None:
    store = store_of(place, ranking("one"), ranking("two"))
    path, other_path = link(store), link(store)
    client, other = joined(store, path), joined(store, other_path)
    (who, _), fresh = store.annotators(), link(store)
    page = client.post("/answer", data=ranks_of(client.get("/").text, [1, 2, 3, 4])).text
    admin = joined(store, link(store, "", role="admin"))
    shown = admin.get("/admin").text
    assert f'aria-label="Revoke {who}"' in shown
    form = {"form_token": field(shown, "form_token"), "name": who}
    assert client.post("/revoke", data=form).status_code == 403  # an annotator is no admin
    assert admin.post("/revoke", data={"name": who}).status_code == 403  # no token of the page
    assert client.get("/").status_code == 200
    assert "revoked" in admin.post("/revoke", data=form).text
    assert admin.post("/revoke", data=form).status_code == 422
    for get in ("/", "/guidelines", "/admin", path):
        assert client.get(get).status_code == 403, get
    for post in ("/answer", "/undo", path):
        assert client.post(post, data=ranks_of(page, [1, 2, 3, 4])).status_code == 403, post
    assert [answer.annotator for answer in store.answers()] == [who]
    assert (other.get("/").status_code, browser(store).get(fresh).status_code) == (200, 200)


def test_a_revoked_admin_is_nobody_at_once(place: str) -> None:
    store = store_of(place, ranking("one"))
    path = link(store, "", role="admin")
    admin = joined(store, path)
    (one,) = store.invitations()
    assert (one.role, one.state, store.revoke(one.id)) == ("admin", "open", 1)
    assert (admin.get("/admin").status_code, browser(store).get(path).status_code) == (403, 403)
    assert store.revoke("") == 0  # no name is nobody's name


def test_a_session_that_is_too_old_or_was_signed_with_another_key_is_nobody(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(place, ranking("one"))
    client = joined(store, link(store))
    session = Signer(store.secret).session(client.cookies["headwater_feedback"])
    assert session is not None
    stranger = browser(store)
    stranger.cookies.set("headwater_feedback", Signer("another key").cookie(session))
    assert stranger.get("/").status_code == 403
    assert client.get("/").status_code == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 86400)
    assert client.get("/").status_code == 403


def test_every_post_needs_the_token_of_its_own_session(place: str) -> None:
    store = store_of(place, ranking("one"))
    path = link(store)
    mine, other = joined(store, path), joined(store, link(store))
    foreign = ranks_of(other.get("/").text, [1, 2, 3, 4])
    none = {name: value for name, value in foreign.items() if name != "form_token"}
    for form in (foreign, none):
        for target in ("/answer", "/undo", "/leave", path):
            assert mine.post(target, data=form).status_code == 403, target
    assert store.answers() == []


def test_the_session_cookie_is_for_http_alone_lax_and_secure_over_https(place: str) -> None:
    store = store_of(place, ranking("one"))
    path = link(store)
    plain = browser(store).get(path).headers["set-cookie"].lower()
    assert "httponly" in plain
    assert "samesite=lax" in plain
    assert "secure" not in plain
    over_tls = browser(store, WebSettings(secure=True), "https://testserver").get(path).headers["set-cookie"].lower()
    assert "; secure" in over_tls


def test_text_with_script_is_shown_as_text(place: str) -> None:
    item = Item("x", SCRIPT, tuple(SCRIPT + str(k) for k in range(4)), (), "", True)
    two = Item("y", [{"role": SCRIPT, "content": SCRIPT}], (SCRIPT, "b"), (), "", True)
    store = store_of(place, item, two)
    client = joined(store, link(store), gender=SCRIPT)
    page = client.get("/")
    while "Save and go on" in page.text:
        assert "<script>document" not in page.text
        assert "<img" not in page.text
        assert "&lt;script&gt;document" in page.text
        form = ranks_of(page.text, [1, 2, 3, 4]) | {"choice": "1"}
        page = client.post("/answer", data=form)
    assert len(store.answers()) == 2
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"


def test_no_page_has_inline_script_or_style(place: str) -> None:
    store = store_of(place, ranking("one"), pair("two"))
    client = joined(store, link(store))
    for path in ("/", "/guidelines"):
        page = client.get(path).text
        assert page.count("<script") == page.count('<script src="/page.js"') == 1
        assert " style=" not in page
        assert " onclick" not in page
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/page.css").status_code == 200


def test_too_many_requests_wait_and_a_huge_form_is_refused(place: str) -> None:
    store = store_of(place, ranking("one"))
    client = joined(store, link(store), WebSettings(per_minute=5))
    form = {"form_token": field(client.get("/").text, "form_token")}
    codes = [client.post("/undo", data=form).status_code for _ in range(8)]
    assert codes == [200] * 5 + [429] * 3
    tries = [browser_of.status_code for browser_of in (client.get("/join/x") for _ in range(8))]
    assert tries[-1] == 429
    other = joined(store, link(store))
    assert other.post("/undo", content=b"x" * (BODY_LIMIT + 1)).status_code == 413


def test_no_secret_is_logged(place: str, caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(place, ranking("one"))
    path = link(store)
    with caplog.at_level(logging.DEBUG, logger="headwater"):
        client = joined(store, path, gender="private word")
        page = client.get("/").text
        client.post("/answer", data=ranks_of(page, [1, 2, 3, 4]))
    assert "GET /join/{token} 200" in caplog.text
    token = path.removeprefix("/join/")
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("headwater"))
    for secret in (
        token,
        field(page, "form_token"),
        store.secret,
        client.cookies["headwater_feedback"],
        "private word",
    ):
        assert secret not in ours


def test_the_store_keeps_hashes_of_links_and_backgrounds_apart(place: str) -> None:
    store = store_of(place, ranking("one"))
    path = link(store)
    client = joined(store, path, region="Orkney", gender="")
    client.post("/answer", data=ranks_of(client.get("/").text, [1, 2, 3, 4]))
    assert store.backgrounds() == [{"region": "Orkney"}]
    token = path.removeprefix("/join/")
    for table in ("meta", "guidelines", "items", "invitations", "annotators", "backgrounds", "answers"):
        kept = json.dumps(store.db.all(f"SELECT * FROM {table}"))
        assert len(kept) > 2
        assert token not in kept
        assert ("Orkney" in kept) == (table == "backgrounds")
    if not place.startswith("postgresql:"):
        assert Path(place).stat().st_mode & 0o077 == 0


def test_two_annotators_at_once_lose_nothing(place: str) -> None:
    store = store_of(place, *(ranking(f"i{n}") for n in range(15)))

    def work(_: int) -> int:
        client, done = joined(store, link(store), WebSettings(per_minute=600)), 0
        page = client.get("/").text
        while "Save and go on" in page:
            page = client.post("/answer", data=ranks_of(page, [1, 2, 3, 4])).text
            done += 1
        return done

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(work, range(2))) == [15, 15]
    given = [(answer.annotator, answer.item) for answer in store.answers()]
    assert len(given) == len(set(given)) == 30


def test_an_item_not_for_everybody_goes_to_so_many_of_each_pool(place: str) -> None:
    store = store_of(place, ranking("shared"), ranking("single", overlap=False))
    for pool in ("north", "north", "south"):
        client = joined(store, link(store, pool))
        page = client.get("/").text
        while "Save and go on" in page:
            page = client.post("/answer", data=ranks_of(page, [1, 2, 3, 4])).text
    given = sorted((answer.item, answer.pool) for answer in store.answers())
    shared, single = [("shared", p) for p in ("north", "north", "south")], [("single", p) for p in ("north", "south")]
    assert given == shared + single


def test_the_admin_sees_counts_agreement_and_disagreement_by_an_own_link(place: str) -> None:
    store = store_of(place, ranking("one"))
    for pool, best_first in (("north", True), ("north", True), ("south", False)):
        client = joined(store, link(store, pool))
        page = client.get("/").text
        order = store.items()["one"].order_for(list(store.annotators())[-1])
        client.post("/answer", data=ranks_of(page, [k + 1 if best_first else 4 - k for k in order]))
    admin = joined(store, link(store, "", role="admin"))
    page = admin.get("/admin").text
    assert "3 answers to 1 of 1 items" in page
    assert '<th scope="row">north – south</th><td>1.000</td><td>12</td>' in page
    assert '<th scope="row">north – north</th><td>0.000</td><td>6</td>' in page
    assert '<th scope="row">north</th><td>1.000 (4)</td>' in page
    assert admin.post("/answer", data={"form_token": "x"}).status_code == 403
