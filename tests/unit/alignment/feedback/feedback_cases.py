"""A store with items, its pages, and a browser of each annotator."""

from __future__ import annotations

import re
import time

from starlette.testclient import TestClient

from alignment.annotators import Guidelines
from alignment.feedback.items import LETTERS, Item
from alignment.feedback.security import Signer, token_sha256
from alignment.feedback.store import Store
from alignment.feedback.web import WebSettings, application

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


def ranking(name: str, k: int = 4, overlap: bool = True) -> Item:
    texts = tuple(f"{name} response {i} {'x' * i}" for i in range(k))
    return Item(name, f"{name} prompt", texts, tuple(f"secret-model-{i}" for i in range(k)), "", overlap)


def pair(name: str) -> Item:
    dialogue = [{"role": "user", "content": f"{name} question"}, {"role": "assistant", "content": "earlier turn"}]
    return Item(name, dialogue, (f"{name} one", f"{name} two, longer"), ("m0", "m1"), "web", True)


def store_of(place: str, *items: Item) -> Store:
    store = Store(place, create=True)
    store.add_guidelines(Guidelines(version="1", text="Prefer the true answer."))
    store.add_items(items)
    return store


def link(store: Store, pool: str = "north", days: float = 1, role: str = "annotator") -> str:
    expires = time.time() + days * 86400
    token = Signer(store.secret).link(role, expires)
    store.add_invitation(token_sha256(token), role, pool, expires)
    return f"/join/{token}"


def browser(store: Store, settings: WebSettings | None = None, url: str = "http://testserver") -> TestClient:
    return TestClient(application(store, settings), base_url=url, follow_redirects=True)


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, f"no field {name} in the page"
    return found[1]


def joined(store: Store, path: str, settings: WebSettings | None = None, **background: str) -> TestClient:
    """A browser that followed a link."""
    client = browser(store, settings)
    token = field(client.get(path).text, "form_token")
    assert client.post(path, data={"form_token": token, **background}).status_code == 200
    return client


def ranks_of(page: str, ranks: list[int], ratings: list[int] | None = None) -> dict[str, str]:
    """A ranking by place on the page."""
    form = {name: field(page, name) for name in ("form_token", "item", "guidelines")}
    for place, rank in enumerate(ranks):
        form[f"rank_{LETTERS[place]}"] = str(rank)
        form[f"rating_{LETTERS[place]}"] = str(ratings[place] if ratings else 3)
    return form
