"""The ledger does what its OpenAPI description says: no 500, no status and no type that is not described, every error a
problem document. schemathesis makes the requests, right ones and wrong ones, within a bound.
"""

from __future__ import annotations

import json
from typing import Any, Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from aicostguard import ledger
from aicostguard.ledger.access import keyring
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.principal import ROLES
from aicostguard.ledger.api import create_app
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import Server, envelope, receipt, serving

#: requests for each route and way
EXAMPLES = 4
#: the routes are dealt into so many tests, each of which stays short on a busy machine
PARTS = 4
#: of whatever is wrong before a route is reached
ANYWHERE = {"404", "405"}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, SqliteStore, str]]:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("described") / "ledger.db"))
    store.default_project()
    key = store.change(lambda c: keyring.add(c, 1, ROLES["admin"], Actor("test"), ledger.now_ms(), reach="ledger"))[0]
    with serving(store) as server:
        server.post(envelope([receipt(feature="f", team="t")]), key=key)
        yield server, store, key
    store.close()


def _checked(server: Server, key: str, label: str, documented: set[str], tried: dict[str, int]) -> Any:
    """What one request is held to."""

    def check(case: Any) -> None:
        tried[label] = tried.get(label, 0) + 1
        headers = {"Authorization": f"Bearer {key}"}
        reply = case.call(base_url=f"http://127.0.0.1:{server.port}", headers=headers, allow_redirects=False)
        shown = (label, reply.status_code, reply.content[:300])
        assert reply.status_code < 500 or reply.status_code == 503, shown  # busy with something else: come again
        assert str(reply.status_code) in documented | ANYWHERE, shown
        if reply.status_code >= 400:
            assert reply.headers["content-type"] == ["application/problem+json"], shown
            problem = json.loads(reply.content)
            assert problem["status"] == reply.status_code and problem["detail"] and problem["error"], shown

    return check


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_route_does_as_described(
    described: tuple[Server, SqliteStore, str], mode: GenerationMode, part: int
) -> None:
    server, store, key = described
    app = create_app(store=store)
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(app.openapi())))
    tried: dict[str, int] = {}
    dealt = [found.ok() for found in schema.get_all_operations()][part::PARTS]
    for operation in dealt:
        check = _checked(server, key, operation.label, set(operation.definition.raw["responses"]), tried)
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            run = settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(given(strategy)(check))
            run()
        except Exception as error:
            if type(error).__name__ in (
                "Unsatisfiable",
                "SkipTest",
                "Skipped",
            ):  # nothing of a plain route can be wrong
                continue
            raise
    wanted = {operation.label for operation in dealt}
    assert len(wanted) >= 10
    assert set(tried) == wanted if mode is GenerationMode.POSITIVE else len(tried) > len(wanted) // 3


def test_a_path_that_is_not_there_is_a_problem_too(described: tuple[Server, SqliteStore, str]) -> None:
    server, _, key = described
    for method, path, status in (("GET", "/v1/nowhere", 404), ("DELETE", "/v1/costs", 405), ("PATCH", "/docs", 405)):
        reply = server.ask(method, path, key=key)
        assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
        assert "/docs" in reply.body["detail"]
