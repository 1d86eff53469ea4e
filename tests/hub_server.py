"""A folder of repositories comes in; out goes a model hub on loopback that the real client downloads from."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

INFO = re.compile(r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)(?:/revision/(?P<revision>[^/]+))?")
FILE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class HubServer:
    """Serves `root`/gpt2, `root`/owner/name, … and counts what is asked: `requests["GET /gpt2/resolve/<commit>/x"]`."""

    root: Path
    requests: Counter[str] = field(default_factory=Counter)
    drops: dict[str, int] = field(default_factory=dict)
    """File name → bytes after which the connection is cut, once, in the answer to a GET."""
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Repository, file name or "GET file name" → status and X-Error-Code to answer with, every time."""
    ranges: list[str] = field(default_factory=list)
    """Range headers that came."""

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(HubHandler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def files(self, repo: str) -> dict[str, Path]:
        folder = self.root / repo
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def commit(self, repo: str) -> str:
        """40 hex digits that change with any file."""
        whole = hashlib.sha1(usedforsecurity=False)
        for name, path in self.files(repo).items():
            whole.update(name.encode() + b"\0" + path.read_bytes())
        return whole.hexdigest()

    def asked(self, file: str) -> int:
        """How many requests, of any method, there were for a file of that name."""
        return sum(count for request, count in self.requests.items() if request.endswith("/" + file))


class HubHandler(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download uses."""

    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server_hub.requests[f"{self.command} {path}"] += 1
        if match := INFO.fullmatch(path):
            self.answer_info(match["repo"], match["revision"])
        elif match := FILE.fullmatch(path):
            self.answer_file(match["repo"], match["revision"], match["file"])
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "")

    def answer_info(self, repo: str, revision: str | None) -> None:
        if not self.has_problem(repo, revision or "main"):
            files = [{"rfilename": name} for name in self.server_hub.files(repo)]
            info = {"id": repo, "modelId": repo, "sha": self.server_hub.commit(repo), "siblings": files}
            self.send(HTTPStatus.OK, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def answer_file(self, repo: str, revision: str, name: str) -> None:
        if self.has_problem(repo, revision, name):
            return
        content = self.server_hub.files(repo)[name].read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": self.server_hub.commit(repo)}
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        status, start = HTTPStatus.OK, 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            self.server_hub.ranges.append(match[0])
            status, start = HTTPStatus.PARTIAL_CONTENT, int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.server_hub.drops.pop(name, None) if self.command == "GET" else None
        self.send(status, content[start:], headers, cut)

    def has_problem(self, repo: str, revision: str, file: str = "") -> bool:
        """Whether the request was refused, as the hub refuses: an unknown name gets 401 from those not logged in."""
        hub = self.server_hub
        refusals = (hub.refusals.get(key) for key in (f"{self.command} {file}", file, repo))
        refusal = next(filter(None, refusals), None)
        if refusal is None and not (hub.root / repo).is_dir():
            refusal = (HTTPStatus.UNAUTHORIZED, "RepoNotFound")
        elif refusal is None and revision not in ("main", hub.commit(repo)):
            refusal = (HTTPStatus.NOT_FOUND, "RevisionNotFound")
        elif refusal is None and file and file not in hub.files(repo):
            refusal = (HTTPStatus.NOT_FOUND, "EntryNotFound")
        if refusal is not None:
            self.refuse(*refusal)
        return refusal is not None

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"", {"X-Error-Code": code} if code else {})

    def send(self, status: int, content: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        """The answer; with `cut`, its length is promised and only so many bytes are given."""
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True
