"""Signed links and sessions, form tokens, the rate limit, and the headers of every response."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import astuple, dataclass

from itsdangerous import BadData, URLSafeSerializer, URLSafeTimedSerializer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION_SECONDS = 30 * 24 * 3600  # an annotator comes back for a month without the link
ADMIN_SECONDS = 12 * 3600
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the path of an invitation is a secret
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Session:
    """Who a browser is: `visitor`, `annotator` or `admin`. `nonce` makes its form token; `invitation` is the hash of
    the link that let it in, and when that is revoked, the session is nobody's."""

    role: str = "visitor"
    who: str = ""
    pool: str = ""
    nonce: str = ""
    invitation: str = ""


class Signer:
    """Makes and reads what only the holder of the store's key can make."""

    def __init__(self, secret: str) -> None:
        digest = {"digest_method": hashlib.sha256}
        self._secret = secret.encode()
        self._links = URLSafeSerializer(secret, salt="headwater feedback link", signer_kwargs=digest)
        self._sessions = URLSafeTimedSerializer(secret, salt="headwater feedback session", signer_kwargs=digest)

    def link(self, role: str, expires: float) -> str:
        """A token for a link, good until `expires` (seconds since 1970)."""
        return str(self._links.dumps([role, int(expires), secrets.token_urlsafe(16)]))

    def link_is_good(self, token: str, role: str) -> bool:
        """Whether we signed the token for this role and it has not expired."""
        try:
            given, expires, _ = self._links.loads(token)
        except (BadData, ValueError, TypeError):
            return False
        return bool(given == role and expires > time.time())

    def cookie(self, session: Session) -> str:
        """A session as the value of a cookie."""
        return str(self._sessions.dumps(list(astuple(session))))

    def session(self, cookie: str) -> Session | None:
        """The session in a cookie; None if it is forged or too old."""
        try:
            values, signed = self._sessions.loads(cookie, max_age=SESSION_SECONDS, return_timestamp=True)
            session = Session(*values)
        except (BadData, TypeError):
            return None
        if session.role == "admin" and time.time() - signed.timestamp() > ADMIN_SECONDS:
            return None
        return session

    def form_token(self, session: Session) -> str:
        """What a form has to send back: no other site can know it."""
        return hmac.new(self._secret, f"form {session.nonce}".encode(), hashlib.sha256).hexdigest()

    def form_token_is_good(self, session: Session, given: str) -> bool:
        return hmac.compare_digest(self.form_token(session).encode(), given.encode())


def new_session(role: str = "visitor", who: str = "", pool: str = "", invitation: str = "") -> Session:
    """A session that nobody has had before."""
    return Session(role, who, pool, secrets.token_urlsafe(16), invitation)


def token_sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class RateLimit:
    """So many events a minute for each key, in a bucket that refills steadily; the oldest keys are forgotten."""

    def __init__(self, per_minute: int, keys: int = 10_000) -> None:
        self._most, self._keys = float(per_minute), keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → what is left, when
        self._lock = threading.Lock()

    def allows(self, key: str) -> bool:
        """Whether one more is allowed, which then counts."""
        now = time.monotonic()
        with self._lock:
            left, then = self._buckets.pop(key, (self._most, now))
            left = min(self._most, left + (now - then) * self._most / 60)
            self._buckets[key] = (left - 1 if left >= 1 else left, now)
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
        return left >= 1


class SecurityHeaders:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)
