"""The HTTP face over real sockets: limits, keys, refusals, headers, the page."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
import tracemalloc
import zlib
from html.parser import HTMLParser
from typing import Any

import pytest

from aicostguard.ledger import body, keys
from aicostguard.ledger.access import places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.model import DIMENSIONS
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, NOW, Server, envelope, epoch, receipt, totals


def _refused(reply: Any, status: int, field: str | None = None) -> str:
    assert reply.status == status, reply
    if field is not None:
        assert reply.body["field"] == field
    return str(reply.body["error"])


# Who may


def test_without_a_valid_key_nothing_but_health_and_docs_answers(server: Server, store: SqliteStore) -> None:
    for path in ("/v1/costs", "/v1/receipts", "/v1/sources"):
        assert "Authorization: Bearer" in _refused(server.get(path, key=None), 401)
        assert "not known" in _refused(server.get(path, key="aicg_" + "x" * 40), 401)
    reply = server.post(envelope([receipt()]), key="aicg_" + "x" * 40)
    assert reply.headers["www-authenticate"] == "Bearer"
    assert _refused(reply, 401)
    assert _refused(server.get("/v1/costs", Authorization="Basic abc", key=None), 401)
    assert server.get("/v1/health", key=None).body == {"status": "ok"}
    assert server.get("/docs", key=None).status == 200
    assert totals(store)["calls"] == 0


def test_a_key_may_only_what_its_scopes_say(server: Server, store: SqliteStore) -> None:
    project = store.default_project()
    for scope in keys.SCOPES:
        store.add_key("aicg_" + scope.ljust(40, "0"), scope, (scope,), project, NOW)
    ingest, read = ("aicg_" + scope.ljust(40, "0") for scope in ("ingest", "read"))
    assert server.post(envelope([receipt()]), key=ingest).status == 200
    assert "scope read" in _refused(server.get("/v1/costs", key=ingest), 403)
    assert "scope ingest" in _refused(server.post(envelope([receipt()]), key=read), 403)
    assert server.get("/v1/costs", key=read).status == 200


def test_a_revoked_key_is_refused_at_once(server: Server, store: SqliteStore) -> None:
    assert server.get("/v1/costs").status == 200
    store.revoke_key(KEY, store.default_project(), NOW)
    assert "revoked" in _refused(server.get("/v1/costs"), 401)


def test_a_key_sees_its_own_project_only(server: Server, store: SqliteStore) -> None:
    server.post(envelope([receipt()]))
    other = "aicg_" + "o" * 40
    store.change(lambda connection: places.add_project(connection, 1, "other", Actor("test"), NOW))
    store.add_key(other, "", tuple(keys.SCOPES), 2, NOW)
    assert server.get("/v1/costs?since=all", key=other).body["totals"]["calls"] == 0
    assert server.get("/v1/receipts?since=all", key=other).body["receipts"] == []
    assert server.post(envelope([receipt()]), key=other).body["accepted"] == 1
    for path in ("/v1/costs?since=all", "/v1/costs?since=all&group_by=model,feature"):
        assert server.get(path).body["totals"]["calls"] == 1
    assert len(server.get("/v1/receipts?since=all").body["receipts"]) == 1
    assert len(server.get("/v1/sources").body["sources"]) == 1


# What is taken


def test_gzip_is_taken(server: Server) -> None:
    assert server.post(envelope([receipt()]), zipped=True).body["accepted"] == 1
    two = gzip.compress(b" ") + gzip.compress(json.dumps(envelope([receipt()])).encode())
    assert server.ask("POST", "/v1/receipts", two, Content_Encoding="gzip").body["duplicate"] == 1


def test_a_gzip_bomb_is_refused_without_being_blown_up(server: Server) -> None:
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(b" " * (1 << 20)) for _ in range(300)) + compressor.flush()
    assert len(bomb) < body.MAX_BODY < 300 << 20
    tracemalloc.start()
    try:
        assert "32 MB" in _refused(server.ask("POST", "/v1/receipts", bomb, Content_Encoding="gzip"), 413)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_body_of_a_hundred_thousand_members_is_refused_early(server: Server) -> None:
    many = gzip.compress(b"") * 100_000
    assert "members" in _refused(server.ask("POST", "/v1/receipts", many, Content_Encoding="gzip"), 400)


def test_a_broken_encoding_is_said(server: Server) -> None:
    whole = gzip.compress(json.dumps(envelope([receipt()])).encode())
    for data in (b"not gzip", whole[:-9]):
        assert "gzip" in _refused(server.ask("POST", "/v1/receipts", data, Content_Encoding="gzip"), 400)
    assert "gzip" in _refused(server.ask("POST", "/v1/receipts", b"{}", Content_Encoding="br"), 415)


def test_too_large_is_413_whether_announced_or_not(server: Server) -> None:
    assert "5 MB" in _refused(server.ask("POST", "/v1/receipts", b" " * (body.MAX_BODY + 1)), 413)
    assert "5 MB" in _refused(server.ask("POST", "/v1/receipts", b" " * (3 * body.MAX_BODY)), 413)
    big = json.dumps(envelope([receipt()] * 60_000)).encode()[: body.MAX_BODY - 1]
    assert server.ask("POST", "/v1/receipts", big, key=None).status == 401, "the reply, not a reset"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            f"POST /v1/receipts HTTP/1.1\r\nHost: ::1\r\nAuthorization: Bearer {KEY}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        connection.settimeout(20)
        for _ in range(90):
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")
    assert "5000" in _refused(server.post(envelope([{}] * 5001)), 413, "receipts")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b'"x"', b'{"a": NaN}', b"\xff\xfe", b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_json_object_is_400(server: Server, data: bytes) -> None:
    assert "JSON" in _refused(server.ask("POST", "/v1/receipts", data), 400)


@pytest.mark.parametrize(
    "field,change",
    [
        ("schema", {"schema": "1"}),
        ("epoch", {"epoch": "../../x"}),
        ("epoch", {"epoch": 5}),
        ("sent_at", {"sent_at": -1}),
        ("sent_at", {"sent_at": 1.5}),
        ("seq", {"seq": [1, 2]}),
        ("seq", {"seq": [True]}),
        ("at", {"at": ["1"]}),
        ("at", {"at": [2**60]}),
        ("receipts", {"receipts": {}}),
        ("service", {"service": 5}),
        ("counters", {"counters": []}),
        ("counters.prompt", {"counters": {"prompt": 1}}),
        ("counters.sent", {"counters": {"sent": -1}}),
        ("prompt", {"prompt": "hello"}),
        ("\\ud800", {"\ud800": 1}),
    ],
)
def test_an_envelope_is_closed_and_names_what_is_wrong(server: Server, field: str, change: dict[str, Any]) -> None:
    said = server.post({**envelope([receipt()]), **change})
    assert said.status == 422
    assert said.body["field"].encode("ascii", "backslashreplace").decode() == field
    for required in ("schema", "epoch", "sent_at", "seq", "at"):
        short = envelope([receipt()])
        del short[required]
        assert server.post(short).body["field"] == required


def test_one_release_older_or_newer_is_understood_and_no_more(server: Server, store: SqliteStore) -> None:
    newer = receipt(quality=5)
    for schema, body_ in ((0, receipt()), (1, receipt()), (2, newer)):
        sent = envelope([body_], name=epoch(), schema=schema)
        if schema == 2:
            sent["weather"] = "fine"
        assert server.post(sent).body == {"accepted": 1, "duplicate": 0, "refused": []}
    assert "upgrade the ledger" in _refused(server.post(envelope([receipt()], schema=3)), 400, "schema")
    assert "upgrade the agent" in _refused(server.post(envelope([receipt()], schema=-1)), 400, "schema")
    assert totals(store)["calls"] == 3


@pytest.mark.ids("G12")
def test_a_bare_receipt_that_does_not_fit_is_422_with_the_reason(server: Server) -> None:
    assert _refused(server.post({"provider": "openai"}), 422, "model") == "is required"
    assert "0 to" in _refused(server.post(receipt(input_tokens=-5)), 422, "input_tokens")
    assert _refused(server.post(receipt(), Idempotency_Key="a b"), 422, "Idempotency-Key")
    assert "envelope" in _refused(server.post(envelope([receipt()]), Idempotency_Key="a"), 400)


def test_half_a_surrogate_pair_in_a_key_of_a_receipt_is_refused_in_ascii(server: Server) -> None:
    reply = server.post(envelope([{**receipt(), "\ud800": 1}]))
    assert reply.body["refused"] == [{"index": 0, "field": "\\ud800", "error": "is not a key of a receipt"}]


# What is asked


@pytest.mark.parametrize(
    "field,question",
    [
        ("grup_by", "grup_by=model"),
        ("group_by", "group_by=prompt"),
        ("group_by", "group_by=model,team,user,agent"),
        ("group_by", "group_by=model,model"),
        ("since", "since=yesterdays"),
        ("since", "since=2026-13-01"),
        ("since", "since=2026-01-02&until=2026-01-01"),
        ("until", "until=soon"),
        ("tz", "tz=Mars/Olympus"),
        ("tz", "tz=../../etc/passwd"),
        ("limit", "limit=0"),
        ("limit", "limit=1e3"),
        ("limit", "limit=99999999999999999999"),
        ("order", "order=price"),
        ("limit", "limit=1&limit=2"),
    ],
)
def test_a_question_that_does_not_fit_is_422_naming_the_parameter(server: Server, field: str, question: str) -> None:
    _refused(server.get(f"/v1/costs?{question}"), 422, field)


def test_other_paths_refuse_unknown_parameters_too(server: Server) -> None:
    _refused(server.get("/v1/health?x=1"), 422, "x")
    _refused(server.get("/v1/sources?x=1"), 422, "x")
    _refused(server.get("/v1/receipts?x=1"), 422, "x")
    _refused(server.get("/v1/receipts?group_by=model"), 422, "group_by")
    assert _refused(server.get("/v1/nothing"), 404)
    assert _refused(server.ask("DELETE", "/v1/costs"), 405)


@pytest.mark.ids("ACC:D16")
def test_a_receipt_is_visible_as_soon_as_it_is_taken(server: Server) -> None:
    waited = []
    for number in range(20):
        began = time.monotonic()
        server.post(receipt(feature=f"f{number}"))
        rows = server.get(f"/v1/costs?since=24h&feature=f{number}").body["totals"]
        assert rows["calls"] == 1
        waited.append(time.monotonic() - began)
    assert sorted(waited)[18] < 2


def test_filters_take_several_values_and_none(server: Server) -> None:
    server.post(envelope([receipt(team="a"), receipt(team="b"), receipt(team="c"), receipt()]))
    answer = server.get("/v1/costs?since=24h&team=a&team=b&group_by=team&order=team").body
    assert [(row["team"], row["calls"]) for row in answer["rows"]] == [("a", 1), ("b", 1)]
    assert answer["totals"]["calls"] == 2
    assert server.get("/v1/costs?since=24h&team=").body["totals"]["calls"] == 1


def test_receipts_come_newest_first_with_their_cost(server: Server) -> None:
    sent = envelope([receipt(feature=f"f{n}", streamed=True, tags={"tier": "gold"}) for n in range(5)])
    sent["at"] = [NOW - 1000 * (5 - n) for n in range(5)]
    server.post(sent)
    found = server.get("/v1/receipts?since=24h&limit=3").body["receipts"]
    assert [row["feature"] for row in found] == ["f4", "f3", "f2"]
    assert found[0]["cost_usd"] == "0.00000033"
    assert found[0]["cost_nanousd"] == 330
    assert found[0]["streamed"] is True
    assert found[0]["tags"] == {"tier": "gold"}
    assert "team" not in found[0]


# How it is said


def test_every_reply_carries_the_security_headers(server: Server) -> None:
    for reply in (
        server.get("/v1/costs"),
        server.get("/v1/costs", key=None),
        server.get("/nowhere"),
        server.get("/docs"),
    ):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "unsafe-eval" not in reply.headers["content-security-policy"]
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline = ""
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        self.inline += data.strip() if self._in_script else ""


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    links = _Links()
    links.feed(server.get("/docs", key=None).raw.decode())
    assert links.inline == ""
    assert len(links.found) >= 5
    for link in links.found:
        assert not re.match(r"[a-z]+:|//", link), link
        assert server.get(f"/{link}", key=None).status == 200
    assert len(server.get("/docs/swagger-ui-bundle.js", key=None).raw) > 500_000


def test_the_document_describes_every_parameter_and_example(server: Server, store: SqliteStore) -> None:
    document = server.get("/docs/openapi.json", key=None).body
    named = {item["name"]: item for item in document["paths"]["/v1/costs"]["get"]["parameters"]}
    assert set(named) >= {*DIMENSIONS, "since", "until", "group_by", "tz", "limit", "order"}
    assert all(item["description"] for item in named.values())
    examples = document["paths"]["/v1/receipts"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        assert server.post(example["value"]).body["accepted"] == 1
    assert store.sources(store.default_project())[0].origin["service"] == "shop"


def test_every_refusal_of_the_document_is_a_problem(server: Server) -> None:
    document = server.get("/docs/openapi.json", key=None).body
    said = {
        (path, method, status): list(response["content"])
        for path, methods in document["paths"].items()
        for method, about in methods.items()
        for status, response in about["responses"].items()
        if status >= "400" and "content" in response and path != "/readyz"
    }
    assert len(said) > 100
    assert [place for place, media in said.items() if media != ["application/problem+json"]] == []
