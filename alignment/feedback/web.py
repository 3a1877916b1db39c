"""The pages and what they send: a Starlette application over a `Store`."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from alignment.feedback.answers import FLAGS, STRENGTHS, Answer, body_of, chosen_step
from alignment.feedback.items import LETTERS, Item
from alignment.feedback.security import (
    ADMIN_SECONDS,
    SESSION_SECONDS,
    RateLimit,
    SecurityHeaders,
    Session,
    Signer,
    new_session,
    token_sha256,
)
from alignment.feedback.store import Store
from alignment.feedback.summary import summary
from curation.errors import RecordError, StageError

PAGES = Path(__file__).parent / "pages"
COOKIE = "headwater_feedback"
BODY_LIMIT = 64 * 1024  # bytes of a form; nine responses with every flag set need 2 KB
TEXT_LIMIT = 80  # characters of a field of the background
BACKGROUND = {
    "age": ("Age band", ("18–24", "25–34", "35–44", "45–54", "55–64", "65 or over")),
    "gender": ("Gender", ()),
    "region": ("Country or region", ()),
    "language": ("First language", ()),
    "dialect": ("Dialect or variety", ()),
    "education": ("Education", ("School", "Vocational", "Bachelor", "Master", "Doctorate")),
}
Form = dict[str, list[str]]
Handler = Callable[[Request], Awaitable[Response]]
log = logging.getLogger("headwater.feedback")


@dataclass(frozen=True)
class WebSettings:
    """How the pages are served."""

    per_item: int = 1  # answers wanted from each pool for an item that is not for everybody
    secure: bool = False  # cookies over https only
    # Answers and undos of each annotator, and links tried from each address: nobody reads two answers a second.
    per_minute: int = 120


class Pages:
    """The handlers. Whatever a page shows goes through Jinja with escaping on."""

    def __init__(self, store: Store, settings: WebSettings) -> None:
        self.store, self.settings = store, settings
        self.signer = Signer(store.secret)
        self.limit = RateLimit(settings.per_minute)
        self.items = store.items()
        self.templates = Environment(
            loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )

    # Pages

    async def home(self, request: Request) -> Response:
        """The item that waits, or what to do without one."""
        session = await self._session(request)
        if session.role == "admin":
            return RedirectResponse("/admin", 303)
        _need(session, "annotator")
        return await run_in_threadpool(self._next_page, session)

    def _next_page(self, session: Session) -> Response:
        guidelines = self.store.guidelines()[-1]
        waiting = self.store.waiting(session.who, session.pool, self.settings.per_item)
        done = self.store.answered(session.who)
        values: dict[str, Any] = {"guidelines": guidelines, "done": done, "total": done + len(waiting)}
        if not waiting:
            return self._page("done.html", session, values)
        item = self._item(waiting[0])
        assert item is not None  # nothing deletes items
        order = item.order_for(session.who)
        values |= {"item": item, "cards": self._cards(item, order, session), "turns": _turns(item)}
        if item.kind == "rank":
            return self._page("rank.html", session, {**values, "flags": FLAGS})
        before = self.store.taken_back(session.who, item.id)
        step = chosen_step(before) if before else 0
        scale = [f"A is {s}" for s in STRENGTHS] + [f"B is {s}" for s in reversed(STRENGTHS)]
        return self._page("pair.html", session, {**values, "scale": scale, "step": step})

    def _cards(self, item: Item, order: list[int], session: Session) -> list[dict[str, Any]]:
        before = self.store.taken_back(session.who, item.id) if item.kind == "rank" else None
        return [
            {
                "letter": LETTERS[place],
                "text": item.responses[k],
                "rank": before["ranks"][k] if before else 0,
                "rating": before["ratings"][k] if before else 0,
                "flags": before["flags"][k] if before else [],
            }
            for place, k in enumerate(order)
        ]

    async def guidelines(self, request: Request) -> Response:
        """The guidelines alone."""
        session = await self._session(request)
        _need(session, "annotator")
        return self._page("guidelines.html", session, {"guidelines": self.store.guidelines()[-1]})

    async def admin(self, request: Request) -> Response:
        """Throughput and agreement."""
        session = await self._session(request)
        _need(session, "admin")
        found = await run_in_threadpool(summary, self.store)
        invitations = await run_in_threadpool(self.store.invitations)
        return self._page("admin.html", session, {"found": found, "invitations": invitations})

    async def join_page(self, request: Request) -> Response:
        """What an invitation link opens: nothing is used up before the form is sent."""
        _, role, _ = self._invited(request)
        session = await self._session(request)
        if not session.nonce:
            session = new_session()
        values = {"background": BACKGROUND, "limit": TEXT_LIMIT, "path": request.url.path, "role": role}
        return self._with_session(self._page("join.html", session, values), session)

    # Forms

    async def join(self, request: Request) -> Response:
        """Make or find the annotator of an invitation and let the browser in."""
        token, role, pool = self._invited(request)
        form = await self._form(request, await self._session(request))
        if role == "admin":
            session = new_session("admin", "admin", invitation=token_sha256(token))
            return self._with_session(RedirectResponse("/admin", 303), session)
        said = {name: form.get(name, [""])[0].strip()[:TEXT_LIMIT] for name in BACKGROUND}
        who = await run_in_threadpool(self.store.join, token_sha256(token))
        await run_in_threadpool(self.store.set_background, who, {name: text for name, text in said.items() if text})
        return self._with_session(RedirectResponse("/", 303), new_session("annotator", who, pool, token_sha256(token)))

    async def answer(self, request: Request) -> Response:
        """Keep an answer; the redirect that follows says that it is on disk."""
        session = await self._session(request)
        form = await self._form(request, session, "annotator")
        item = self._item(form.get("item", [""])[0])
        version = form.get("guidelines", [""])[0]
        if item is None or version not in {known.version for known in self.store.guidelines()}:
            raise HTTPException(422, "This form is not one of ours any more. Open the page again.")
        try:
            body = body_of(item, session.who, form)
        except RecordError as error:
            raise HTTPException(422, error.problems[0].message) from None
        await run_in_threadpool(self.store.save, Answer(session.who, session.pool, item.id, version, body))
        return RedirectResponse("/", 303)

    async def undo(self, request: Request) -> Response:
        """Take the last answer back; the page then shows its item, filled in as it was."""
        session = await self._session(request)
        await self._form(request, session, "annotator")
        await run_in_threadpool(self.store.undo, session.who)
        return RedirectResponse("/", 303)

    async def leave(self, request: Request) -> Response:
        """Forget the session in this browser."""
        await self._form(request, await self._session(request))
        response = self._page("left.html", Session(), {})
        response.delete_cookie(COOKIE)
        return response

    async def revoke(self, request: Request) -> Response:
        """Withdraw an invitation, its sessions with it."""
        form = await self._form(request, await self._session(request), "admin")
        withdrawn = await run_in_threadpool(self.store.revoke, form.get("name", [""])[0])
        if not withdrawn:
            raise HTTPException(422, "No invitation that stands is called so. Open the page again.")
        return RedirectResponse("/admin", 303)

    # Pieces

    def _item(self, name: str) -> Item | None:
        if name not in self.items:
            self.items = self.store.items()  # another process may have added some
        return self.items.get(name)

    async def _session(self, request: Request) -> Session:
        """Whose browser this is: nobody's when its cookie is forged or too old, or its invitation was revoked."""
        session = self.signer.session(request.cookies.get(COOKIE, "")) or Session()
        if session.role == "visitor":
            return session
        stands = await run_in_threadpool(self.store.lets_in, session.invitation, session.role)
        return session if stands else Session()

    def _with_session(self, response: Response, session: Session) -> Response:
        response.set_cookie(
            COOKIE,
            self.signer.cookie(session),
            max_age=ADMIN_SECONDS if session.role == "admin" else SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=self.settings.secure,
        )
        return response

    def _invited(self, request: Request) -> tuple[str, str, str]:
        """Token, role and pool of the link; a forged, expired or unknown one is refused alike."""
        address = request.client.host if request.client else ""
        self._count(f"link {address}")
        token = request.path_params["token"]
        found = self.store.invitation(token_sha256(token))
        if found is None or not self.signer.link_is_good(token, found[0]):
            raise HTTPException(403, "This link is not valid, or not any more. Ask for a new one.")
        return token, *found

    async def _form(self, request: Request, session: Session, role: str = "") -> Form:
        """The fields of a form from a page that we made for this session."""
        if role:
            _need(session, role)
            self._count(f"{role} {session.who}")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise HTTPException(413, "That is more than a form of ours holds.")
        try:
            form = parse_qs(body.decode(), max_num_fields=500)
        except ValueError:
            raise HTTPException(400, "That is not a form.") from None
        if not session.nonce or not self.signer.form_token_is_good(session, form.get("form_token", [""])[0]):
            raise HTTPException(403, "This form was not made for you. Open the page again.")
        return form

    def _count(self, key: str) -> None:
        if not self.limit.allows(key):
            raise HTTPException(429, "Too many requests. Wait a minute.", {"Retry-After": "60"})

    def _page(self, name: str, session: Session, values: Mapping[str, Any], status: int = 200) -> Response:
        token = self.signer.form_token(session) if session.nonce else ""
        text = self.templates.get_template(name).render(**values, form_token=token, session=session)
        return HTMLResponse(text, status)

    async def error(self, request: Request, error: Exception) -> Response:
        """A refusal, as a page."""
        if isinstance(error, StageError):
            log.error("%s", error)
            error = HTTPException(503, "Nothing was saved: the store does not answer. Go back and try again.")
        if not isinstance(error, HTTPException):
            raise error
        page = self._page("error.html", Session(), {"status": error.status_code, "text": error.detail})
        page.status_code = error.status_code
        page.headers.update(error.headers or {})
        return page


def application(store: Store, settings: WebSettings | None = None) -> Starlette:
    """The pages of a store."""
    pages = Pages(store, settings or WebSettings())
    routes = [
        ("/", pages.home, "GET"),
        ("/join/{token}", pages.join_page, "GET"),
        ("/join/{token}", pages.join, "POST"),
        ("/answer", pages.answer, "POST"),
        ("/undo", pages.undo, "POST"),
        ("/leave", pages.leave, "POST"),
        ("/guidelines", pages.guidelines, "GET"),
        ("/admin", pages.admin, "GET"),
        ("/revoke", pages.revoke, "POST"),
        ("/page.css", _file("page.css"), "GET"),
        ("/page.js", _file("page.js"), "GET"),
    ]
    return Starlette(
        routes=[Route(path, _logged(path, handler), methods=[method]) for path, handler, method in routes],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={HTTPException: pages.error, StageError: pages.error},
    )


def _logged(path: str, handler: Handler) -> Handler:
    """Log the route, never the address: the address of an invitation is a secret."""

    async def run(request: Request) -> Response:
        start, status = time.monotonic(), 500
        try:
            response = await handler(request)
            status = response.status_code
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            log.info("%s %s %d %.0f ms", request.method, path, status, 1000 * (time.monotonic() - start))
        return response

    return run


def _file(name: str) -> Handler:
    async def serve(_: Request) -> Response:
        return FileResponse(PAGES / name)

    return serve


def _need(session: Session, role: str) -> None:
    if session.role != role:
        raise HTTPException(403, "Open your invitation link first.")


def _turns(item: Item) -> list[tuple[str, str]]:
    if isinstance(item.prompt, str):
        return [("Prompt", item.prompt)]
    return [(turn["role"].capitalize(), turn["content"]) for turn in item.prompt]
