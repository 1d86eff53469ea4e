"""The application: routes, what they answer, and the limits on what a request may cost."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from epigone import __version__
from epigone.errors import EpigoneError
from epigone.serving.answers import (
    DONE,
    ApiError,
    answer_error,
    answer_json,
    encode_event,
    name_ignored,
    translate,
)
from epigone.serving.blind_test import BlindTest
from epigone.serving.completions import Choice, Completion, Piece, describe_tokens, place_tokens, score, sum_nats
from epigone.serving.engine import Engine
from epigone.serving.guard import AccessMiddleware, AccessRules
from epigone.serving.library import LoadedModel, ModelLibrary
from epigone.serving.openapi import describe_api
from epigone.serving.overview import describe_model, describe_progress, find_copies, follow, list_names
from epigone.serving.schemas import (
    CompletionQuery,
    CopiesQuery,
    DetokenizeQuery,
    Q,
    QuizQuery,
    ScoreQuery,
    TokenizeQuery,
    parse,
)
from epigone.tokens.tokenizer import encode

T = TypeVar("T")
STATIC = Path(str(files("epigone") / "serving" / "static"))
BODY_SECONDS = 30.0
"""In which the body of a request has to come."""
EVENT_STREAM = "text/event-stream"
NO_CONVERSATION = ("/chat/completions", "/responses", "/messages", "/api/chat")
"""Ends of addresses that many clients ask first, unless they are told that a model completes."""
NOTHING_HERE = (
    "There is nothing at this address. The base URL for clients of OpenAI's API ends with /v1, after the port; "
    "/openapi.json lists what there is."
)
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What requests may cost."""

    most_requests: int = 96
    """That are computed or wait; one more is answered with 429."""
    most_body_bytes: int = 1 << 20
    seconds: float = 600.0
    """For one answer; its texts then end where they are."""


USUAL, LOCAL = Limits(), AccessRules()


@dataclass(slots=True)
class Counts:
    """What was asked and answered, for /metrics."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    n_open: int = 0
    """Requests that are computed or wait."""
    n_refused: int = 0
    """Answered with 429."""
    n_left: int = 0
    """Given up because the client went away."""
    started: float = field(default_factory=time.time)

    def count(self, route: str, status: int) -> None:
        """An answer more."""
        self.requests[route, status] += 1


class Service:
    """Everything that answers share: the models, the model threads, limits and counts."""

    def __init__(self, library: ModelLibrary, engine: Engine, limits: Limits, *, plain: bool) -> None:
        self.library, self.engine, self.limits, self.plain = library, engine, limits, plain
        self.counts = Counts()
        self.draining = False
        n_cores = torch.get_num_threads()  # model threads change what others get
        self._workers = ThreadPoolExecutor(2, "epigone-prepare", initializer=torch.set_num_threads, initargs=(n_cores,))

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of what takes long and is not the model's work, computed in another thread. Raises ApiError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)
        except EpigoneError as error:
            raise translate(error) from None

    async def load(self, name: str, mix: Mapping[str, float] = MappingProxyType({})) -> LoadedModel:
        """The model of a name, in memory, with others mixed in by their names. Raises ApiError."""
        return await self.work(self.load_here, name, mix)

    def load_here(self, name: str, mix: Mapping[str, float]) -> LoadedModel:
        """The same in the thread that calls this. Raises EpigoneError."""
        return self.library.load(*self.library.find_mixed(name, mix))

    def close(self) -> None:
        """End all threads."""
        self.engine.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """A place among the requests that are computed or wait. Raises ApiError where there is none."""
        if self.draining:
            raise ApiError(503, "The server is shutting down.", kind="server_error", retry_after=5)
        if self.counts.n_open >= self.limits.most_requests:
            self.counts.n_refused += 1
            raise ApiError(
                429,
                f"{self.counts.n_open} requests are being answered; try again later.",
                kind="rate_limit_error",
                code="queue_full",
                retry_after=2 + self.engine.n_waiting / 10,
            )
        self.counts.n_open += 1
        try:
            yield
        finally:
            self.counts.n_open -= 1


def make_app(
    library: ModelLibrary,
    rules: AccessRules = LOCAL,
    limits: Limits = USUAL,
    *,
    engine: Engine | None = None,
    plain: bool = False,
) -> Starlette:
    """The server as an ASGI application. `plain`: without settings in a request, the model's own distribution."""
    service = Service(library, engine or Engine(), limits, plain=plain)

    @asynccontextmanager
    async def run_engine(_app: Starlette) -> AsyncIterator[None]:
        service.engine.start()
        try:
            yield
        finally:
            service.close()

    app = Starlette(
        routes=list_routes(),
        middleware=[Middleware(AccessMiddleware, rules=rules, on_answer=service.counts.count)],
        exception_handlers={
            ApiError: _answer_api_error,
            ClientDisconnect: _answer_no_one,
            HTTPException: _answer_http,
            Exception: _answer_crash,
        },
        lifespan=run_engine,
    )
    app.state.service = service
    return app


def list_routes() -> list[Route | Mount]:
    """All paths; any other one is a file of the page."""
    get, post = ["GET"], ["POST"]
    return [
        Route("/health", show_health, methods=get),
        Route("/metrics", show_metrics, methods=get),
        Route("/openapi.json", show_openapi, methods=get),
        Route("/v1/models", list_models, methods=get),
        Route("/v1/models/", list_models, methods=get),
        Route("/v1/models/{name:path}", show_model, methods=get),
        Route("/v1/completions", complete, methods=post),
        Route("/v1/score", score_text, methods=post),
        Route("/tokenize", tokenize, methods=post),
        Route("/detokenize", detokenize, methods=post),
        Route("/api/models", list_all, methods=get),
        Route("/api/runs/{name:path}/live", show_live, methods=get),
        Route("/api/runs/{name:path}", show_run, methods=get),
        Route("/api/quiz", ask_quiz, methods=post),
        Route("/api/copies", show_copies, methods=post),
        *([Mount("/", PageFiles(directory=STATIC, html=True))] if STATIC.is_dir() else []),
    ]


class PageFiles(StaticFiles):
    """The files of the page. A browser keeps them, and asks each time whether they are still the same (ETag)."""

    def file_response(self, *arguments: Any, **more: Any) -> Response:
        """See `StaticFiles`."""
        answer = super().file_response(*arguments, **more)
        answer.headers["Cache-Control"] = "private, no-cache"
        return answer


# -- errors


async def _answer_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return answer_error(error)


async def _answer_no_one(_request: Request, _error: Exception) -> Response:
    """The client left before its request was read."""
    return answer_error(ApiError(499, "The client has left."))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    methods = _list_methods(request)
    if request.url.path.endswith(NO_CONVERSATION):
        message = "These models continue a text and hold no conversation: ask POST /v1/completions, with a prompt."
        status = 404
    elif methods:
        status, message = 405, f"This address is for {' and '.join(methods)}, not for {request.method}."
    else:
        status = 404 if error.status_code == 405 else error.status_code
        message = NOTHING_HERE if status == 404 else "The request cannot be answered."
    answer = answer_error(ApiError(status, message, kind="not_found_error"))
    answer.headers.update({**(error.headers or {}), **({"Allow": ", ".join(methods)} if status == 405 else {})})
    return answer


def _list_methods(request: Request) -> list[str]:
    """Those that the request's address is for, if not for its own."""
    found = [
        route
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] == Match.PARTIAL
    ]
    return sorted({method for route in found for method in route.methods or ()} - {"HEAD"})


async def _answer_crash(_request: Request, _error: Exception) -> Response:
    return answer_error(ApiError(500, "This is a bug in epigone.", kind="server_error"))


# -- reading requests


def get_service(request: Request) -> Service:
    """What answers share."""
    service: Service = request.app.state.service
    return service


async def read_query(request: Request, kind: type[Q]) -> tuple[Q, dict[str, str]]:
    """A request's body, and the header that names what is ignored of it. Raises ApiError."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(415, "The body has to be JSON, with Content-Type: application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError(415, "The body is compressed (Content-Encoding): send it as it is.")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read_body(request, get_service(request).limits.most_body_bytes)
    except TimeoutError:
        raise ApiError(408, "The body did not come in time.") from None
    query, ignored = parse(kind, body)
    return query, name_ignored(ignored)


async def _read_body(request: Request, most_bytes: int) -> bytes:
    too_large = ApiError(413, f"The body is larger than {most_bytes:,} bytes.")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise too_large
    return bytes(body)


async def unless_left(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is given up when the client goes away. Raises ApiError then."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_wait_until_left(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        get_service(request).counts.n_left += 1
        raise ApiError(499, "The client has left.")
    finally:
        for each in (task, left):
            each.cancel()


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# -- OpenAI's API


async def complete(request: Request) -> Response:
    """POST /v1/completions."""
    service = get_service(request)
    query, headers = await read_query(request, CompletionQuery)
    with ExitStack() as stack:
        stack.enter_context(service.admit())
        completion = await unless_left(request, _prepare(service, query))
        if query.stream:
            return EventStream(_stream_completion(service, completion), headers, stack.pop_all().close, service)
        await unless_left(request, completion.collect(service.engine))
        choices = await service.work(completion.choose_best)
        described = [completion.describe(choice, choice.pieces) for choice in choices]
        answer = completion.make_answer(described) | {"usage": completion.count_usage()}
        return answer_json(answer, headers=headers)


async def _prepare(service: Service, query: CompletionQuery) -> Completion:
    def prepare() -> Completion:  # in one go, as each change of threads takes a while
        model = service.load_here(query.model, query.mix)
        deadline = time.monotonic() + service.limits.seconds
        return Completion(query, model, plain=service.plain, deadline=deadline)

    return await service.work(prepare)


async def _stream_completion(service: Service, completion: Completion) -> AsyncGenerator[bytes]:
    """Chunks of the answer: one for each token where tokens are asked for, else one for all that came together."""
    chunks = ChunkWriter(completion)
    try:
        async with aclosing(completion.run(service.engine)) as parts:
            async for choice, piece in parts:
                chunks.add(choice, piece)
                if not completion.has_more:
                    yield chunks.take()
    except ApiError as error:
        yield chunks.take() + encode_event(error.as_json())
        return
    if rest := chunks.take():
        yield rest
    if completion.query.stream_options.include_usage:
        yield encode_event(completion.make_answer([]) | {"usage": completion.count_usage()})
    yield DONE


class ChunkWriter:
    """Makes the chunks of a streamed answer: text of one choice that came together is one, since each costs time."""

    def __init__(self, completion: Completion) -> None:
        self._completion = completion
        self._begun: set[int] = set()
        self._chunks: list[bytes] = []
        self._held: dict[int, tuple[Choice, list[Piece]]] = {}
        """Of choices whose pieces may be joined."""

    def add(self, choice: Choice, piece: Piece | None) -> None:
        """A piece more of a choice; None at its end."""
        if piece is not None and not piece.tokens:
            self._held.setdefault(choice.index, (choice, []))[1].append(piece)
            return
        self._put(*self._held.pop(choice.index, (choice, [])))
        self._put(choice, [] if piece is None else [piece], ends=piece is None)

    def _put(self, choice: Choice, pieces: list[Piece], *, ends: bool = False) -> None:
        if pieces or ends:
            described = self._completion.describe(choice, pieces, first=choice.index not in self._begun)
            self._begun.add(choice.index)
            described |= {"logprobs": None} if ends else {"finish_reason": None}
            self._chunks.append(self._completion.encode_chunk(described))

    def take(self) -> bytes:
        """All chunks since the last time."""
        for held in self._held.values():
            self._put(*held)
        self._held.clear()
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


class EventStream(StreamingResponse):
    """Server-sent events. What they take is given back when they end, or when the client goes away."""

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        headers: dict[str, str],
        on_end: Callable[[], None],
        service: Service,
    ) -> None:
        self._events, self._on_end, self._service = events, on_end, service
        self._finished = False
        super().__init__(self._iterate(), headers=STREAM_HEADERS | headers, media_type=EVENT_STREAM)

    async def _iterate(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield event
        self._finished = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            async with asyncio.timeout(2 * self._service.limits.seconds):  # a client that does not read
                await super().__call__(scope, receive, send)
        finally:
            self._service.counts.n_left += not self._finished
            await self._events.aclose()
            self._on_end()


async def list_models(request: Request) -> Response:
    """GET /v1/models."""
    service = get_service(request)
    models = await service.work(service.library.list_models)
    return answer_json({"object": "list", "data": [_describe_for_openai(model) for model in models if model.created]})


async def show_model(request: Request) -> Response:
    """GET /v1/models/NAME."""
    service = get_service(request)
    return answer_json(_describe_for_openai(await service.work(service.library.find, request.path_params["name"])))


def _describe_for_openai(model: Any) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "epigone", "kind": model.kind}


# -- scores and tokens


async def score_text(request: Request) -> Response:
    """POST /v1/score."""
    service = get_service(request)
    query, headers = await read_query(request, ScoreQuery)
    with service.admit():
        return answer_json(await unless_left(request, _score(service, query)), headers=headers)


async def _score(service: Service, query: ScoreQuery) -> dict[str, Any]:
    model = await service.load(query.model)
    ids = await service.work(encode, query.text, model.generator.tokenizer)
    infos = await score(service.engine, model, [model.generator.end_of_text, *ids], query.logprobs)
    nats, n_bytes = sum_nats(infos), len(query.text.encode())
    tokens = list(place_tokens(infos, model.generator.token_bytes))
    return {
        "object": "score",
        "model": model.served.name,
        "nats": nats,
        "loss": nats / len(ids),
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "logprobs": describe_tokens(model, tokens, query.logprobs),
        "token_ids": ids,
        "usage": {"prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": len(ids)},
    }


async def tokenize(request: Request) -> Response:
    """POST /tokenize."""
    service = get_service(request)
    query, headers = await read_query(request, TokenizeQuery)
    model = await service.load(query.model)
    ids = await service.work(encode, query.content, model.generator.tokenizer)
    pieces = [{"id": number, "piece": _spell_piece(model.generator.token_bytes[number])} for number in ids]
    return answer_json({"tokens": pieces if query.with_pieces else ids, "count": len(ids)}, headers=headers)


def _spell_piece(data: bytes) -> str | list[int]:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return list(data)


async def detokenize(request: Request) -> Response:
    """POST /detokenize."""
    service = get_service(request)
    query, headers = await read_query(request, DetokenizeQuery)
    model = await service.load(query.model)
    if wrong := next((token for token in query.tokens if token >= model.n_tokens), None):
        raise ApiError(400, f"tokens: there is no token {wrong}; this model has {model.n_tokens:,}.", param="tokens")
    data = b"".join(model.generator.token_bytes[token] for token in query.tokens)
    return answer_json({"content": data.decode("utf-8", "replace")}, headers=headers)


# -- for the page


async def list_all(request: Request) -> Response:
    """GET /api/models."""
    service = get_service(request)
    models = await service.work(service.library.list_models)
    described = await service.work(lambda: [describe_model(model) for model in models])
    return answer_json({"version": __version__, "models": described})


async def show_run(request: Request) -> Response:
    """GET /api/runs/NAME."""
    service = get_service(request)
    served = await service.work(service.library.find, request.path_params["name"])
    return answer_json(await service.work(describe_progress, served))


async def show_live(request: Request) -> Response:
    """GET /api/runs/NAME/live."""
    service = get_service(request)
    served = await service.work(service.library.find, request.path_params["name"])

    async def stream() -> AsyncGenerator[bytes]:
        async with aclosing(follow(served, past=request.query_params.get("past") == "1")) as events:
            async for event in events:
                yield b": still here\n\n" if event is None else encode_event(event)
        yield DONE

    return EventStream(stream(), {}, lambda: None, service)


async def show_copies(request: Request) -> Response:
    """POST /api/copies."""
    service = get_service(request)
    query, headers = await read_query(request, CopiesQuery)
    with service.admit():
        model = await service.load(query.model)
        found = await unless_left(request, service.work(_find_copies, model, query))
    return answer_json({"model": model.served.name, "passages": found}, headers=headers)


def _find_copies(model: LoadedModel, query: CopiesQuery) -> list[dict[str, Any]]:
    generator = model.generator
    names = list_names(model.served, len(generator.documents))
    return find_copies(generator.learned, names, query.text, query.min_characters)


async def ask_quiz(request: Request) -> Response:
    """POST /api/quiz."""
    service = get_service(request)
    query, headers = await read_query(request, QuizQuery)
    with service.admit():
        model = await service.load(query.model)
        test = await service.work(BlindTest, model, query)
        await unless_left(request, test.write(service.engine, time.monotonic() + service.limits.seconds))
        return answer_json(await service.work(test.describe), headers=headers)


# -- about the server


async def show_health(request: Request) -> Response:
    """GET /health."""
    service = get_service(request)
    if not service.engine.is_alive:
        return answer_json({"status": "failed"}, 503)
    return answer_json({"status": "draining" if service.draining else "ok"}, 503 if service.draining else 200)


async def show_openapi(_request: Request) -> Response:
    """GET /openapi.json."""
    return answer_json(describe_api())


async def show_metrics(request: Request) -> Response:
    """GET /metrics."""
    service = get_service(request)
    return Response(describe_metrics(service), media_type="text/plain; version=0.0.4")


def describe_metrics(service: Service) -> str:
    """Prometheus' text format."""
    counts, engine = service.counts, service.engine
    rows = [
        ("tokens_total", "counter", "Tokens generated.", engine.counts.tokens),
        ("steps_total", "counter", "Steps of the model.", engine.counts.steps),
        ("model_busy_seconds_total", "counter", "Time in these steps.", round(engine.counts.busy_seconds, 3)),
        ("tokens_per_second", "gauge", "Of the last steps.", round(engine.counts.tokens_per_second, 1)),
        ("texts_running", "gauge", "Texts that are being decoded.", engine.n_rows),
        ("requests_waiting", "gauge", "Requests with texts that wait.", engine.n_waiting),
        ("requests_open", "gauge", "Requests that are computed or wait.", counts.n_open),
        ("requests_refused_total", "counter", "Answered with 429.", counts.n_refused),
        ("requests_abandoned_total", "counter", "Given up because the client went away.", counts.n_left),
        ("failures_total", "counter", "Steps that failed.", engine.counts.failures),
        ("models_loaded", "gauge", "Models in memory.", len(service.library.loaded)),
        ("start_time_seconds", "gauge", "When the server started.", round(counts.started, 3)),
    ]
    lines = []
    for name, kind, text, value in rows:
        lines += [f"# HELP epigone_{name} {text}", f"# TYPE epigone_{name} {kind}", f"epigone_{name} {value}"]
    lines += ["# HELP epigone_requests_total Answers.", "# TYPE epigone_requests_total counter"]
    for (route, status), number in sorted(counts.requests.items()):
        lines.append(f'epigone_requests_total{{path="{route}",status="{status}"}} {number}')
    return "\n".join(lines) + "\n"
