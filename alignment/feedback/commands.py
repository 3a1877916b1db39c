"""`headwater feedback serve|invite|revoke|export`: arguments, and what is printed."""

from __future__ import annotations

import argparse
import json
import logging
import re
import socket
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from alignment.annotators import Guidelines
from alignment.feedback.databases import shown
from alignment.feedback.export import export
from alignment.feedback.items import read_items
from alignment.feedback.store import Store
from curation.errors import ConfigError, Problem, StageError

NEEDED = ("itsdangerous", "jinja2", "starlette", "uvicorn")  # the extra `feedback`
WHERE = "a file, or postgresql://USER@HOST:PORT/DATABASE"
POOL = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")  # it becomes part of annotator ids


def feedback_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="serve|invite|revoke|export", required=True)
    serve = actions.add_parser("serve", help="serve the pages; prints an admin link and the invitations asked for")
    serve.add_argument("store", metavar="STORE", help=f"{WHERE}; made when it is not there")
    serve.add_argument("--items", type=Path, metavar="ITEMS.jsonl", help="added to those in the store")
    serve.add_argument("--overlap", type=float, default=0.1, metavar="SHARE", help="of new items that all answer (0.1)")
    serve.add_argument("--per-item", type=int, default=1, help="answers wanted from each pool for the others (1)")
    serve.add_argument("--guidelines", type=Path, metavar="TEXT", help="what annotators are told")
    serve.add_argument("--guidelines-version", default="1", metavar="V")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8734, help="0 takes a free one")
    serve.add_argument("--proxy", default="", metavar="ADDRESS", help="reverse proxy whose X-Forwarded-For is believed")
    invite = actions.add_parser("invite", help="print invitation links, also while the pages are served")
    invite.add_argument("store", metavar="STORE", help=WHERE)
    for one in (serve, invite):
        one.add_argument(
            "--invite", action="append", default=[], metavar="POOL[=N]", help="N links, each for one person of a pool"
        )
        one.add_argument("--days", type=float, default=14, help="how long the links are good (14)")
        one.add_argument("--url", default="", metavar="URL", help="where people reach the pages; https makes it secure")
    revoke = actions.add_parser(
        "revoke", help="withdraw invitations, their sessions with them; without names, list all"
    )
    revoke.add_argument("store", metavar="STORE", help=WHERE)
    revoke.add_argument("names", metavar="NAME", nargs="*", help="an annotator, or an invitation as listed")
    out = actions.add_parser("export", help="rows for training, and a data card")
    out.add_argument("store", metavar="STORE", help=WHERE)
    out.add_argument("--out", metavar="FOLDER", type=Path, required=True)
    out.add_argument("--json", action="store_true", help="print what card.json holds")


def run_feedback(args: argparse.Namespace) -> int:
    """Serve the pages, print links, or write rows and card."""
    if args.action == "export":
        card = export(Store(args.store), args.out)
        print(json.dumps(card) if args.json else args.out)
        return 0
    if args.action == "revoke":
        return _revoke(Store(args.store), args.names)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        hint = "pip install 'headwater[feedback]'"
        raise ConfigError(Problem("missing-extra", f"the feedback pages need {', '.join(missing)}", hint=hint))
    if not 0 < args.days <= 3650:
        raise ConfigError(Problem("bad-value", f"`--days {args.days}`", expected="more than 0, at most 3650"))
    wanted = [_wanted(text) for text in args.invite]
    if args.action == "invite":
        _print_links(Store(args.store), wanted, args.days, args.url or "http://127.0.0.1:8734")
        return 0
    return _serve(args, wanted)


def _serve(args: argparse.Namespace, wanted: list[tuple[str, int]]) -> int:
    import uvicorn

    from alignment.feedback.web import WebSettings, application

    if not 0 <= args.overlap <= 1 or args.per_item < 1:
        given = f"{args.overlap} and {args.per_item}"
        expected = "a share from 0 to 1, and 1 or more"
        raise ConfigError(Problem("bad-value", f"`--overlap` and `--per-item` are {given}", expected=expected))
    items = read_items(args.items) if args.items else []
    text = _text(args.guidelines) if args.guidelines else None
    if text is None:
        _check_guidelines(args.store)
    listening = _listen(args.host, args.port)
    store = Store(args.store, create=True)
    if text is not None:
        store.add_guidelines(Guidelines(version=args.guidelines_version, text=text))
    new = store.add_items(items, args.overlap)
    url = (args.url or f"http://{args.host}:{listening.getsockname()[1]}").rstrip("/")
    print(f"{new} new items, {len(store.items())} in all; pages at {url}", file=sys.stderr)
    _print_links(store, [("", 1), *wanted], args.days, url)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    config = uvicorn.Config(
        application(store, WebSettings(per_item=args.per_item, secure=url.startswith("https:"))),
        access_log=False,  # it would print the paths of invitations
        log_level="warning",
        server_header=False,
        proxy_headers=bool(args.proxy),
        forwarded_allow_ips=args.proxy or None,
    )
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _check_guidelines(where: str) -> None:
    try:
        known = Store(where)
    except ConfigError as error:
        if error.problems[0].code != "no-file":
            raise
    else:
        if known.guidelines():
            return
    hint = "--guidelines TEXT: every answer names the version it followed"
    raise ConfigError(Problem("no-guidelines", "the store has no guidelines", shown(where), hint=hint))


def _revoke(store: Store, names: list[str]) -> int:
    """Withdraw what is named, or print one line an invitation: name, role or pool, annotator, answers, state."""
    unknown = [name for name in names if not store.revoke(name)]
    if unknown:
        hint = "headwater feedback revoke STORE lists them"
        message = f"no invitation that stands is called {', '.join(unknown)}"
        raise ConfigError(Problem("no-invitation", message, store.where, hint=hint))
    if not names:
        for one in store.invitations():
            print(one.id, one.pool or one.role, one.annotator or "-", one.answers, one.state, sep="\t")
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise StageError(Problem("no-port", f"cannot listen: {error}", f"{host}:{port}")) from None


def _print_links(store: Store, wanted: list[tuple[str, int]], days: float, url: str) -> None:
    """One line a link on stdout: role or pool, tab, link. The pool "" stands for the admin."""
    from alignment.feedback.security import Signer, token_sha256

    signer, expires = Signer(store.secret), time.time() + days * 24 * 3600
    for pool, count in wanted:
        for _ in range(count):
            role = "annotator" if pool else "admin"
            token = signer.link(role, expires)
            store.add_invitation(token_sha256(token), role, pool, expires)
            print(f"{pool or 'admin'}\t{url.rstrip('/')}/join/{token}", flush=True)


def _wanted(text: str) -> tuple[str, int]:
    pool, _, count = text.partition("=")
    if not POOL.fullmatch(pool) or pool == "admin" or not (count or "1").isdigit():
        expected = "POOL or POOL=N: a name of a–z, 0–9, _ and -, not `admin`, and a whole number"
        raise ConfigError(Problem("bad-value", f"`--invite {text}`", expected=expected))
    return pool, int(count or 1)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(Problem("no-file", "there is no such file", str(path))) from None
    except UnicodeDecodeError as error:
        raise ConfigError(Problem("bad-value", f"not UTF-8: {error}", str(path))) from None
