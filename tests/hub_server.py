"""A model hub on loopback, made of a folder of repositories: the real client downloads from it and uploads to it."""

from __future__ import annotations

import base64
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
PREUPLOAD = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/main")
COMMIT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/main")
BATCH = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
OBJECT = re.compile(r"/objects/(?P<oid>[0-9a-f]{64})")
LARGE = (".safetensors", ".gguf", ".png")
"""Endings of files that go up by LFS."""


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
    token: str = "hf_loopback"
    """Who has it is the user `user` and may write to their own repositories."""
    user: str = "jane"
    private: dict[str, bool] = field(default_factory=dict)
    """Repositories that were made here, or that are known to be private."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """What came by LFS, by its sha256."""
    commits: list[list[str]] = field(default_factory=list)
    """The names of the files in each commit."""

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

    def tags(self, repo: str) -> list[str]:
        """Those in the metadata of the card, as the hub lists them."""
        card = self.root / repo / "README.md"
        metadata = card.read_text("utf-8").split("\n---\n")[0] if card.exists() else ""
        return re.findall(r"^- (\S+)$", metadata, re.MULTILINE)

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

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server_hub.requests[f"{self.command} {path}"] += 1
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self.read_chunks()
        if path == "/api/whoami-v2" or self.command in ("POST", "PUT"):
            self.answer_writer(path)
        elif match := INFO.fullmatch(path):
            self.answer_info(match["repo"], match["revision"])
        elif match := FILE.fullmatch(path):
            self.answer_file(match["repo"], match["revision"], match["file"])
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "")

    def answer_info(self, repo: str, revision: str | None) -> None:
        if not self.has_problem(repo, revision or "main"):
            files = [{"rfilename": name} for name in self.server_hub.files(repo)]
            info = {"id": repo, "modelId": repo, "sha": self.server_hub.commit(repo), "siblings": files}
            info |= {"private": self.server_hub.private.get(repo, False), "tags": self.server_hub.tags(repo)}
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

    # -- uploads

    def read_chunks(self) -> bytes:
        """A body that is sent in chunks."""
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def answer_writer(self, path: str) -> None:
        hub = self.server_hub
        refusal = hub.refusals.get(f"{self.command} {path}")
        if OBJECT.fullmatch(path) and refusal is None:  # such an address is its own permission
            hub.objects[hashlib.sha256(self.body).hexdigest()] = self.body
            self.send(HTTPStatus.OK, b"", {"ETag": '"1"'})
        elif self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.refuse(HTTPStatus.UNAUTHORIZED, "")
        elif refusal is not None:
            self.refuse(*refusal)
        elif path == "/api/whoami-v2":
            self.send_json({"type": "user", "name": hub.user, "orgs": [], "auth": {}})
        elif path == "/api/repos/create":
            self.create(json.loads(self.body))
        elif path == "/api/validate-yaml":
            self.validate_card(json.loads(self.body)["content"])
        elif match := PREUPLOAD.fullmatch(path):
            self.choose_modes(match["repo"], json.loads(self.body)["files"])
        elif match := BATCH.fullmatch(path):
            self.offer_places(json.loads(self.body)["objects"])
        elif match := COMMIT.fullmatch(path):
            self.take_commit(match["repo"], [json.loads(line) for line in self.body.splitlines()])
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "")

    def create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != self.server_hub.user:
            self.refuse(HTTPStatus.FORBIDDEN, "")
            return
        (self.server_hub.root / repo).mkdir(parents=True)
        (self.server_hub.root / repo / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        self.server_hub.private[repo] = asked.get("private", False) or asked.get("visibility") == "private"
        self.send_json({"url": f"{self.server_hub.url}/{repo}", "name": repo})

    def validate_card(self, content: str) -> None:
        metadata = content.split("---")[1]
        wrong = '"license" must be one of the known ones' if "license: no-such" in metadata else ""
        answer = {"errors": [{"message": wrong}] if wrong else [], "warnings": []}
        self.send_json(answer, HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.OK)

    def choose_modes(self, repo: str, files: list[dict[str, Any]]) -> None:
        there = self.server_hub.files(repo)
        self.send_json({"files": [self.choose_mode(file["path"], there) for file in files]})

    def choose_mode(self, name: str, there: dict[str, Path]) -> dict[str, Any]:
        large = name.endswith(LARGE)
        content = there[name].read_bytes() if name in there else None
        oid = None if content is None else hash_content(content, large=large)
        return {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def offer_places(self, objects: list[dict[str, Any]]) -> None:
        places = []
        for one in objects:
            upload = {"href": f"{self.server_hub.url}/objects/{one['oid']}", "header": {}}
            actions = {} if one["oid"] in self.server_hub.objects else {"actions": {"upload": upload}}
            places.append({"oid": one["oid"], "size": one["size"], **actions})
        self.send_json({"transfer": "basic", "objects": places})

    def take_commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = [line["value"] for line in lines if line["key"] in ("file", "lfsFile")]
        for file in files:
            path = self.server_hub.root / repo / file["path"]
            path.parent.mkdir(exist_ok=True)
            large = "oid" in file
            path.write_bytes(self.server_hub.objects[file["oid"]] if large else base64.b64decode(file["content"]))
        self.server_hub.commits.append([file["path"] for file in files])
        commit = self.server_hub.commit(repo)
        self.send_json(
            {"commitUrl": f"{self.server_hub.url}/{repo}/commit/{commit}", "commitOid": commit, "hookOutput": ""}
        )

    def send_json(self, value: object, status: int = HTTPStatus.OK) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

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


def hash_content(content: bytes, *, large: bool) -> str:
    """What the hub calls a file's oid: its sha256 if it came by LFS, else git's hash of it."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
