"""What the server answers with: JSON, errors in OpenAI's form, and server-sent events."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from starlette.responses import Response

from epigone.errors import EpigoneError, OutOfMemory, RunDamaged, RunNotFound

ErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error",
    "server_error",
]  # fmt: skip
HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MOST_NAMED = 20
ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
DONE = b"data: [DONE]\n\n"
"""The end of a stream of completions."""


class ApiError(Exception):
    """A request that is answered with an error. Its `param` is the field that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: ErrorType = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.param, self.code, self.retry_after = status, kind, param, code, retry_after

    def as_json(self) -> dict[str, Any]:
        """The body: OpenAI's error object."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Those that belong to its status."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}


def translate(error: EpigoneError) -> ApiError:
    """An expected error of the library for a client, who learns no path of this machine."""
    if isinstance(error, RunNotFound):
        return ApiError(404, "The model is not there, or not yet.", kind="not_found_error", param="model")
    if isinstance(error, RunDamaged):
        return ApiError(503, "The model's files are damaged or are being replaced.", kind="server_error")
    if isinstance(error, OutOfMemory):
        return ApiError(503, "Memory ran out.", kind="server_error", retry_after=10)
    if isinstance(error, OSError) or "/" in str(error) or "\\" in str(error):
        return ApiError(400, f"The request cannot be done with this model ({type(error).__name__}).")
    return ApiError(400, " ".join(filter(None, (str(error), error.hint))))


def encode_json(value: Any) -> bytes:
    """JSON in ASCII, so that no half of a character can spoil it. Raises ValueError for NaN and infinity."""
    return ENCODER.encode(value).encode()


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a JSON body."""
    return Response(encode_json(value), status, headers, "application/json")


def answer_error(error: ApiError) -> Response:
    """The response to a request that failed."""
    return answer_json(error.as_json(), error.status, error.headers)


def encode_event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + encode_json(value) + b"\n\n"


def name_ignored(names: list[str]) -> dict[str, str]:
    """The header that names fields of a request which have no effect here."""
    shown = [name if HEADER_NAME.fullmatch(name) else "?" for name in names[:MOST_NAMED]]
    return {"X-Epigone-Ignored": ", ".join(shown)} if shown else {}


def clip(log_probability: float) -> float:
    """A log-probability for JSON, which has no infinity; vLLM's lowest one."""
    return max(log_probability, -9999.0) if not math.isnan(log_probability) else -9999.0
