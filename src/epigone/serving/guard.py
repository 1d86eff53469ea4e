"""Who may ask: the names under which the server is reached, origins, the token; and the headers that keep a page safe.

A page of any site can send requests to a server on this machine, and a name that it resolves to 127.0.0.1 makes the
answers readable (DNS rebinding). So a request has to name a host that is known, and may come from no other origin.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from epigone.serving.answers import ApiError, answer_error

COOKIE = "epigone_token"
OPEN_PATHS = {"/health"}
"""Asked by programs that watch over the server; it says only whether it works."""
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(\s*,\s*[A-Za-z0-9-]{1,64}){0,30}")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
EXPOSED = "X-Request-Id, X-Epigone-Ignored, Retry-After"


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessRules:
    """Which requests are answered."""

    hosts: frozenset[str] = frozenset(LOOPBACK_NAMES)
    """Names under which the server may be asked for, in lower case, without port."""
    any_address: bool = False
    """Whether any IP address will do as a name: no site can have one resolve to another."""
    origins: frozenset[str] = frozenset()
    """Other origins whose pages may ask, such as https://example.org, or null for a file."""
    token: str = ""
    """What a client has to know; empty where all may ask."""

    def allows_host(self, name: str) -> bool:
        """Whether the server may be asked for under this name."""
        return name in self.hosts or (self.any_address and _is_address(name))

    def allows_token(self, given: Iterable[str]) -> bool:
        """Whether one of these is the token; takes the same time for each wrong one."""
        return not self.token or any(
            hmac.compare_digest(one.encode("utf-8", "replace"), self.token.encode()) for one in given
        )


def split_host(value: str) -> str | None:
    """The name in a Host header, in lower case and without the port; None where it is not one."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:@/\[\]]+))(?::[0-9]{1,5})?", value)
    return (found[1] or found[2]).lower() if found else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class AccessMiddleware:
    """Refuses requests that the rules do not allow, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, rules: AccessRules, on_answer: Callable[[str, int], None]) -> None:
        """`on_answer` is called with the route and the status of each answer."""
        self.app, self.rules, self._on_answer = app, rules, on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin if origin is not None and origin in self.rules.origins else None

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(MutableHeaders(scope=message), allowed)
                self._on_answer(getattr(scope.get("route"), "path", "") or "other", message["status"])
            await send(message)

        try:
            answer = self._check(scope, headers, allowed)
        except ApiError as error:
            answer = answer_error(error)
        await (answer or self.app)(scope, receive, send_with_headers)

    def _check(self, scope: Scope, headers: Headers, allowed: str | None) -> Response | None:
        """An answer that needs nothing more; None where the request may go on. Raises ApiError."""
        names = headers.getlist("host")
        name = split_host(names[0]) if len(names) == 1 else None
        if name is None or not self.rules.allows_host(name):
            raise ApiError(403, "This server is not known by that name (Host).", kind="permission_error")
        if allowed is None:
            self._check_origin(scope, headers, names[0])
        elif scope["method"] == "OPTIONS":
            return _answer_preflight(headers)
        return None if scope["path"] in OPEN_PATHS else self._check_token(scope, headers)

    def _check_origin(self, scope: Scope, headers: Headers, host: str) -> None:
        origins = headers.getlist("origin")
        same = all(urlsplit(origin).netloc.lower() == host.lower() for origin in origins)
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
        follows_link = scope["method"] == "GET" and mode == "navigate" and not origins
        if not same or (site in ("cross-site", "same-site") and not follows_link):
            raise ApiError(403, "Pages of other sites may not use this server.", kind="permission_error")

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        if not self.rules.token:
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = [*asked, *([bearer.strip()] if scheme.lower() == "bearer" else []), *_read_cookie(headers)]
        if not self.rules.allows_token(given):
            raise ApiError(
                401,
                "This server needs a token: Authorization: Bearer TOKEN, or ?token=TOKEN in the browser.",
                kind="authentication_error",
                code="invalid_api_key",
            )
        if asked and scope["method"] == "GET" and scope["path"] == "/":  # out of the address line and the history
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self.rules.token, httponly=True, samesite="strict")
            return answer
        return None


def _read_cookie(headers: Headers) -> list[str]:
    try:
        cookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return []
    return [cookie[COOKIE].value] if COOKIE in cookie else []


def _answer_preflight(headers: Headers) -> Response:
    """What a browser asks before a request from another origin."""
    answer = Response(status_code=204)
    answer.headers["Access-Control-Allow-Methods"] = "GET, POST"
    answer.headers["Access-Control-Max-Age"] = "600"
    asked = headers.get("access-control-request-headers", "")
    if HEADER_NAMES.fullmatch(asked):
        answer.headers["Access-Control-Allow-Headers"] = asked
    return answer


def _add_headers(headers: MutableHeaders, origin: str | None) -> None:
    for name, value in SAFE_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("X-Request-Id", uuid4().hex)
    if origin is not None:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = EXPOSED
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        headers.append("Vary", "Origin")
