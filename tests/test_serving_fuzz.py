"""Requests made from the OpenAPI document, right and wrong ones, are answered as that document says (schemathesis)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from epigone.serving.openapi import describe_api
from helpers_serving import Live, live

schemathesis = pytest.importorskip("schemathesis")

NOT_IN_THE_DOCUMENT = {"best_of", "guidance", "mix", "n", "prompt", "logit_bias", "tokens"}
"""Fields that have to fit other fields, or the model's vocabulary."""
N_EXAMPLES = 50
ENDLESS = "/api/runs/{name}/live"
"""A stream that goes on for as long as a run may write to it."""
CASES = [
    (path, method, mode)
    for path, methods in describe_api()["paths"].items()
    for method in methods
    for mode in ("positive", "negative")
    if path != ENDLESS and (method == "post" or mode == "positive")
]
"""Only what has a body can be wrong."""


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live() as server:
        yield server


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "method", "mode"), CASES, ids=str)
def test_whatever_is_asked_the_answer_is_one_of_the_document(server: Live, path: str, method: str, mode: str) -> None:
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    operation: Any = schemathesis.openapi.from_dict(describe_api())[path][method.upper()]
    statuses = set[int]()

    @settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
            case.body["max_tokens"] %= 20
        answer = case.call(base_url=server.url)
        statuses.add(answer.status_code)
        if answer.status_code != 413:
            case.validate_response(answer, excluded_checks=[positive_data_acceptance])
        if mode == "positive" and answer.status_code == 400 and method == "post":
            assert answer.json()["error"]["param"] in NOT_IN_THE_DOCUMENT, answer.text

    ask()
    assert not statuses & {500, 502, 504}
    assert server.service.engine.counts.failures == 0
    assert server.post(prompt="Thou", max_tokens=1).status_code == 200
