"""The OpenAPI document of the server, from the schemas of its requests."""

from __future__ import annotations

from functools import cache
from typing import Any

from epigone import __version__
from epigone.serving.schemas import (
    CompletionQuery,
    CopiesQuery,
    DetokenizeQuery,
    Query,
    QuizQuery,
    ScoreQuery,
    TokenizeQuery,
)

REFERENCES = "#/components/schemas/{model}"
POSTS: dict[str, tuple[type[Query], str]] = {
    "/v1/completions": (CompletionQuery, "Continue texts, as OpenAI's endpoint of this name."),
    "/v1/score": (ScoreQuery, "How likely is each token of a text?"),
    "/tokenize": (TokenizeQuery, "The token ids of a text."),
    "/detokenize": (DetokenizeQuery, "The text of token ids."),
    "/api/quiz": (QuizQuery, "Passages half by the author and half by the model."),
    "/api/copies": (CopiesQuery, "Passages of a text that stand in the model's training text."),
}
GETS = {
    "/v1/models": "The models, as OpenAI lists them.",
    "/v1/models/{name}": "One model.",
    "/api/models": "The models with their sizes, losses and states.",
    "/api/runs/{name}": "A run's curves and samples.",
    "/health": "Whether the server works.",
    "/openapi.json": "This document.",
}
TEXTS = {"/metrics": ("Figures for Prometheus.", "text/plain")}
STREAMS = {"/api/runs/{name}/live": "The events of a run as they are recorded."}
FAILURES = {
    "400": "The request is wrong.",
    "401": "The token is missing or wrong.",
    "403": "The host or the origin is not allowed.",
    "404": "There is no such model, or nothing at this address.",
    "405": "This address has no such method.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "429": "Too many requests are being answered; see Retry-After.",
    "500": "A bug.",
    "503": "The server is shutting down, or the model cannot be read now.",
}


@cache
def describe_api() -> dict[str, Any]:
    """The document, in version 3.1."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": _describe_error()}
    for path, (kind, text) in POSTS.items():
        schema = kind.model_json_schema(ref_template=REFERENCES)
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = _allow_null(schema)
        streams: dict[str, Any] = {"text/event-stream": {}} if kind is CompletionQuery else {}
        paths[path] = {"post": _describe(text, "application/json", streams) | {"requestBody": _refer(kind)}}
    for path, text in GETS.items():
        paths[path] = {"get": _describe(text, "application/json")}
    for path, (text, media_type) in TEXTS.items():
        paths[path] = {"get": _describe(text, media_type)}
    for path, text in STREAMS.items():
        paths[path] = {"get": _describe(text, "text/event-stream")}
    for path, operations in paths.items():
        for operation in operations.values():
            if "{name}" in path:
                operation["parameters"] = [
                    {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
                ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "epigone", "version": __version__, "description": "See docs/serving.md."},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _allow_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A field that is null is as if it were left out; those that are required stay as they are."""
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        if name not in required and {"type": "null"} not in field.get("anyOf", []):
            described = {key: field.pop(key) for key in ("description", "default", "title") if key in field}
            schema["properties"][name] = described | {"anyOf": [field, {"type": "null"}]}
    return schema


def _refer(kind: type[Query]) -> dict[str, Any]:
    reference = {"$ref": REFERENCES.format(model=kind.__name__)}
    return {"required": True, "content": {"application/json": {"schema": reference}}}


def _describe(text: str, media_type: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": REFERENCES.format(model="Error")}}}
    good = {"description": "Done.", "content": {media_type: {}} | (more or {})}
    return {
        "summary": text,
        "responses": {"200": good} | {code: {"description": why, "content": error} for code, why in FAILURES.items()},
    }


def _describe_error() -> dict[str, Any]:
    text = {"type": "string"}
    nullable = {"type": ["string", "null"]}
    fields = {"message": text, "type": text, "param": nullable, "code": nullable}
    return {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "object", "required": list(fields), "properties": fields}},
    }
