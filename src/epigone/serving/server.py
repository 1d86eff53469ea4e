"""Runs the application: a socket, uvicorn around it, and an end that lets texts in progress finish."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import signal
import socket
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, ClassVar
from urllib.parse import quote
from weakref import WeakKeyDictionary

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from epigone.errors import SettingsError
from epigone.serving.app import Service
from epigone.serving.guard import LOOPBACK_NAMES, AccessRules

MOST_CONNECTIONS = 512
"""Each takes a file and some memory, whether or not it asks for anything."""
IDLE_SECONDS = 15.0
"""After which a connection is closed on which no whole request has come."""
TOKEN_LETTERS = frozenset(string.ascii_letters + string.digits + "-._~")
"""Which need no escaping in headers, addresses and cookies."""
LARGEST_HEAD = 16 << 10
DRAIN_SECONDS = 20.0
"""For texts in progress, when the server is to end; then they end where they are."""
LAST_SECONDS = 5
"""In which their clients get them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where the server listens."""

    host: str
    port: int
    socket: socket.socket

    def name(self, token: str = "") -> str:
        """What to open in a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        shown = host if self.host not in ("0.0.0.0", "::") else socket.gethostname()
        return f"http://{shown}:{self.port}/" + (f"?token={quote(token, safe='')}" if token else "")


def bind(host: str, port: int) -> Address:
    """A socket that listens. Raises SettingsError where the address cannot be used."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # with the protocol named, asyncio sends each piece at once (TCP_NODELAY), else it would wait 40 ms for more
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        # On Windows the other option would let a second program take the port over.
        listening.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        raise SettingsError(
            f"The server cannot listen at {host}, port {port}: {error.strerror}.",
            hint="Choose another port with --port, or --port 0 for any that is free.",
        ) from None
    return Address(host=host, port=listening.getsockname()[1], socket=listening)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at this address."""
    try:
        return host in LOOPBACK_NAMES or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_rules(host: str, *, names: tuple[str, ...], origins: tuple[str, ...], token: str) -> AccessRules:
    """Who may ask. Beyond this machine only those who know the token, which is made where none is given.

    Raises SettingsError for a token that cannot be sent as it is.
    """
    if not set(token) <= TOKEN_LETTERS:
        raise SettingsError("A token has letters, digits and - . _ ~ only.", hint="Leave it out, and one is made.")
    local = is_loopback(host)
    hosts = {*LOOPBACK_NAMES, *(name.lower() for name in names), host.lower()}
    if not local:
        hosts.add(socket.gethostname().lower())
        token = token or secrets.token_urlsafe(24)
    return AccessRules(hosts=frozenset(hosts), any_address=not local, origins=frozenset(origins), token=token)


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP, with a limit on connections, and on the time that one may stay without a request.

    At the limit a new connection takes the place of the oldest on which no request has come, so that many silent ones
    keep no one out.
    """

    _silent: ClassVar[WeakKeyDictionary[ServerState, dict[LimitedProtocol, None]]] = WeakKeyDictionary()
    """For each server its connections on which no request had come when last looked at, the oldest first."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        silent = self._silent.setdefault(self.server_state, {})
        if len(self.connections) >= MOST_CONNECTIONS and not self._make_place(silent):
            transport.abort()
            return
        super().connection_made(transport)
        silent[self] = None
        self._timer = self.loop.call_later(IDLE_SECONDS, self._close_if_silent)

    def _make_place(self, silent: dict[LimitedProtocol, None]) -> bool:
        """Whether a silent connection was closed."""
        while silent:
            oldest = next(iter(silent))
            del silent[oldest]
            if oldest._close_if_silent():
                self.connections.discard(oldest)
                return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._silent.get(self.server_state, {}).pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            super().connection_lost(exc)

    def _close_if_silent(self) -> bool:
        """Close it where no request has come whose head is complete."""
        if self.cycle is None:
            self.transport.abort()
        return self.cycle is None


class Server(uvicorn.Server):
    """uvicorn's server; asked to end, it takes no new requests and lets those in progress finish."""

    def __init__(self, app: Starlette, *, drain_seconds: float = DRAIN_SECONDS) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=LimitedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="error",  # others' mistakes are no news
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=LARGEST_HEAD,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=round(drain_seconds) + LAST_SECONDS,
            )
        )
        self.service: Service = app.state.service
        self._drain_seconds = drain_seconds
        self._asked = False
        """Whether it has been asked to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's, it does not raise them again: a server that was asked to end has done what it should."""
        if current_thread() is not main_thread():  # which alone may handle signals
            yield
            return
        handlers = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; at once when asked for the second time."""
        self.service.draining = True
        super().handle_exit(sig, frame)
        if self.should_exit and sig == signal.SIGTERM and self._asked:
            self.force_exit = True
        self._asked = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is in progress in time."""
        self.service.draining = True
        timer = asyncio.get_running_loop().call_later(self._drain_seconds, self.service.engine.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


def serve(server: Server, address: Address, on_start: Callable[[], Any]) -> None:
    """Answer until the server is asked to end: by SIGINT, SIGTERM or its `should_exit`."""

    async def run() -> None:
        waiting = asyncio.ensure_future(_wait_until_started(server, on_start))
        try:
            await server.serve(sockets=[address.socket])
        finally:
            waiting.cancel()

    asyncio.run(run())


async def _wait_until_started(server: Server, on_start: Callable[[], Any]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    on_start()
