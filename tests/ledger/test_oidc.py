"""Log-in through an OpenID Connect provider on this machine: who gets in, and every lie that is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import urllib.parse
from pathlib import Path
from typing import Any, Iterator

import pytest

from aicostguard.ledger.access import oidc, people
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger import issuer as issuers
from tests.ledger.issuer import Issuer
from tests.ledger.support import NOW, Reply, Server, serving
from tests.ledger.test_people import Browser

BY = Actor("test")
ROLES = [
    {"group": "finops", "role": "admin", "reach": "organisation", "of": "default"},
    {"group": "readers", "role": "read", "of": "default"},
    {"group": "ghosts", "role": "admin", "of": "nowhere"},
]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuers.running() as found:
        yield found


@pytest.fixture
def provider(issuer: Issuer) -> Iterator[oidc.Provider]:
    body = {"issuer": issuer.url, "client_id": "aicg", "url": "http://127.0.0.1:1", "roles": ROLES, "sign_up": True}
    found = oidc.Provider(oidc.parse(body, "s3cr:t"))
    yield found
    found.close()


@pytest.fixture
def server(store: SqliteStore, provider: oidc.Provider) -> Iterator[Server]:
    with serving(store, provider=provider) as found:
        yield found


def sent_to(browser: Browser, target: str = "/") -> dict[str, str]:
    """What the ledger asks the provider, in the browser's address bar."""
    reply = browser.ask("GET", f"/v1/oidc/login?target={urllib.parse.quote(target)}")
    assert reply.status == 303, reply
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(reply.headers["location"]).query))


def back(browser: Browser, address: str) -> Reply:
    parts = urllib.parse.urlsplit(address)
    return browser.ask("GET", f"{parts.path}?{parts.query}", Sec_Fetch_Site="cross-site")


def log_in(browser: Browser, issuer: Issuer, target: str = "/") -> Reply:
    return back(browser, issuer.visited(sent_to(browser, target)))


def test_somebody_logs_in_and_their_groups_are_roles(server: Server, store: SqliteStore, issuer: Issuer) -> None:
    browser = Browser(server)
    asked = sent_to(browser, "/page?x=1")
    assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
    assert asked["redirect_uri"] == "http://127.0.0.1:1/v1/oidc/callback"
    issuer.person["groups"] = ["finops", "ghosts", "others"]
    reply = back(browser, issuer.visited(asked))
    assert (reply.status, reply.headers["location"]) == (303, "/page?x=1")
    assert issuer.secrets == ["Basic " + base64.b64encode(b"aicg:s3cr%3At").decode()]
    me = browser.ask("GET", "/v1/whoami").body
    assert (me["who"], me["held"]) == ("ada@example.com", {"organisation": ["ingest", "manage", "read"]})
    issuer.person["groups"] = ["readers"]
    issuer.person["email"] = "ada.l@example.com"
    assert log_in(browser, issuer).status == 303
    me = browser.ask("GET", "/v1/whoami").body
    assert (me["who"], me["roles"], me["held"]) == ("ada@example.com", ["read"], {}), (
        "the subject decides, not the address"
    )
    issuer.person["groups"] = []
    log_in(browser, issuer)
    assert browser.ask("GET", "/v1/whoami").status == 403


def test_roles_given_here_stay(server: Server, store: SqliteStore, issuer: Issuer) -> None:
    browser = Browser(server)
    log_in(browser, issuer)
    ada = store.look(lambda c: people.found(c, "ada@example.com"))
    store.change(lambda c: people.set_role(c, ada, "project", 1, "admin", BY, NOW))
    issuer.person["groups"] = ["readers"]
    log_in(browser, issuer)
    assert browser.ask("GET", "/v1/whoami").body["roles"] == ["admin"]
    issuer.person["groups"] = []
    log_in(browser, issuer)
    assert browser.ask("GET", "/v1/whoami").body["roles"] == ["admin"]


def test_a_key_that_is_changed_at_the_provider_is_found(
    server: Server, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(server)
    assert log_in(browser, issuer).status == 303
    issuer.rotate()
    monkeypatch.setattr(oidc, "KEYS_AGAIN_S", 0.0)
    assert log_in(browser, issuer).status == 303
    asked = issuer.asked.count("/keys")
    assert asked == 2
    assert log_in(browser, issuer).status == 303
    assert (issuer.asked.count("/keys"), issuer.asked.count("/.well-known/openid-configuration")) == (2, 1)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(part: dict[str, Any]) -> str:
    return _text(json.dumps(part).encode())


def _unsigned(claims: dict[str, Any]) -> str:
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def _confused(issuer: Issuer) -> Any:
    """Signed with the public key's text as if it were a shared secret."""
    public = issuer.key.as_pem(private=False)

    def sign(claims: dict[str, Any]) -> str:
        head = ".".join(_part(part) for part in ({"alg": "HS256", "kid": issuer.key.kid}, claims))
        return f"{head}.{_text(hmac.new(public, head.encode(), hashlib.sha256).digest())}"

    return sign


LIES: dict[str, tuple[Any, Any, str]] = {
    "another audience": (lambda i: lambda c: {**c, "aud": "shop"}, None, "for another program (aud)"),
    "also another audience": (lambda i: lambda c: {**c, "aud": ["aicg", "shop"], "azp": "shop"}, None, "(azp)"),
    "two audiences, no azp": (lambda i: lambda c: {**c, "aud": ["aicg", "shop"]}, None, "(azp)"),
    "another issuer": (lambda i: lambda c: {**c, "iss": "https://evil.example"}, None, "another provider issued it"),
    "expired": (lambda i: lambda c: {**c, "exp": int(time.time()) - 120}, None, "it has expired"),
    "of the future": (lambda i: lambda c: {**c, "iat": int(time.time()) + 3600}, None, "iat"),
    "no expiry": (lambda i: lambda c: {k: v for k, v in c.items() if k != "exp"}, None, "lacks exp"),
    "another nonce": (lambda i: lambda c: {**c, "nonce": "x"}, None, "another log-in (nonce)"),
    "no nonce": (lambda i: lambda c: {k: v for k, v in c.items() if k != "nonce"}, None, "lacks nonce"),
    "no subject": (lambda i: lambda c: {k: v for k, v in c.items() if k != "sub"}, None, "lacks sub"),
    "another key of that name": (
        None,
        lambda i: lambda c: i.signed(c, issuers._key(i.key.kid)),
        "its signature is wrong",
    ),
    "a key that is not published": (None, lambda i: lambda c: i.signed(c, issuers._key("other")), "does not publish"),
    "no signature": (None, lambda i: _unsigned, "its algorithm is not one of"),
    "the public key as a secret": (None, _confused, "its algorithm is not one of"),
    "no token": (None, lambda i: lambda c: "nonsense", "refused"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_said(server: Server, store: SqliteStore, issuer: Issuer, lie: str) -> None:
    claims, sign, words = LIES[lie]
    issuer.claims = claims(issuer) if claims else issuer.claims
    issuer.sign = sign(issuer) if sign else issuer.sign
    browser = Browser(server)
    reply = log_in(browser, issuer)
    assert (reply.status, reply.headers["content-type"]) == (401, "application/problem+json"), reply
    assert words in reply.body["detail"] and reply.body["field"] == "id_token", reply
    assert browser.ask("GET", "/v1/whoami").status == 401
    assert store.look(people.every) == []


def test_an_answer_counts_once_and_for_the_browser_that_asked(server: Server, issuer: Issuer) -> None:
    browser, thief = Browser(server), Browser(server)
    address = issuer.visited(sent_to(browser))
    kept = dict(browser.cookies)
    assert back(browser, address).status == 303
    browser.cookies = kept
    again = back(browser, address)
    assert (again.status, again.body["field"]) == (400, "state"), "the state was answered"
    assert "answered already" in again.body["error"]
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)["code"][0]
    fresh = sent_to(browser)
    replayed = back(browser, f"{fresh['redirect_uri']}?code={code}&state={fresh['state']}")
    assert (replayed.status, replayed.body["field"]) == (401, "code"), "the code was used"
    assert "invalid_grant" in replayed.body["error"]
    stolen = back(thief, issuer.visited(sent_to(browser)))
    assert (stolen.status, stolen.body["field"]) == (403, "state"), "begun by another browser"
    mine = sent_to(thief)
    asked = sent_to(browser)
    crossed = back(thief, issuer.visited({**asked, "state": mine["state"]}))
    assert crossed.status == 401, "a code of another log-in fits neither verifier nor nonce"
    made_up = back(browser, f"{fresh['redirect_uri']}?code=x&state=made-up")
    assert (made_up.status, made_up.body["field"]) == (400, "state")
    for end in ("", "?code=x"):
        assert back(browser, fresh["redirect_uri"] + end).body["field"] == "state"
    refused = sent_to(browser)
    said = back(browser, f"{refused['redirect_uri']}?error=access_denied%0d%0a<b>&state={refused['state']}")
    assert said.status == 401 and "access_denied" in said.body["error"] and "\r" not in said.body["error"]


def test_a_log_in_may_not_take_too_long(server: Server, store: SqliteStore, issuer: Issuer) -> None:
    browser = Browser(server)
    address = issuer.visited(sent_to(browser))
    store.change(lambda c: c.execute("UPDATE logins SET created_ms = created_ms - 600000"))
    reply = back(browser, address)
    assert (reply.status, reply.body["field"]) == (400, "state")


def test_where_to_go_on_is_a_path_of_the_ledger(server: Server) -> None:
    for target in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "/a\r\nb"):
        reply = Browser(server).ask("GET", f"/v1/oidc/login?target={urllib.parse.quote(target)}")
        assert (reply.status, reply.body["field"]) == (422, "target")


def test_whose_account_it_is(server: Server, store: SqliteStore, issuer: Issuer, provider: oidc.Provider) -> None:
    store.change(lambda c: people.add(c, "ada@example.com", "", BY, NOW))
    issuer.person["email_verified"] = False
    reply = log_in(Browser(server), issuer)
    assert (reply.status, reply.body["field"]) == (403, "email"), "an address that nobody verified claims no account"
    issuer.person["email_verified"] = "true"
    assert log_in(Browser(server), issuer).status == 403
    issuer.person["email_verified"] = True
    assert log_in(Browser(server), issuer).status == 303
    issuer.person["sub"] = "somebody else"
    assert "somebody else" in log_in(Browser(server), issuer).body["error"]
    provider.settings = provider.settings._replace(sign_up=False)
    issuer.person["email"] = "new@example.com"
    assert "no account here" in log_in(Browser(server), issuer).body["error"]
    ada = store.look(lambda c: people.found(c, "ada@example.com"))
    store.change(lambda c: people.disable(c, ada, True, BY, NOW))
    issuer.person.update(sub="ada-1", email="ada@example.com")
    assert "disabled" in log_in(Browser(server), issuer).body["error"]


def test_a_provider_that_is_not_itself_or_does_not_answer(server: Server, issuer: Issuer, store: SqliteStore) -> None:
    issuer.name = "https://other.example"
    reply = Browser(server).ask("GET", "/v1/oidc/login")
    assert reply.status == 502 and "calls itself https://other.example" in reply.body["error"]
    gone = oidc.Provider(
        oidc.parse({"issuer": "http://127.0.0.1:9", "client_id": "x", "url": "http://127.0.0.1"}, None)
    )
    with pytest.raises(LedgerError, match="does not answer"):
        gone.begin("s", "n", "v")
    gone.close()


def test_without_a_provider_it_is_said(store: SqliteStore) -> None:
    with serving(store) as server:
        assert "--oidc" in server.get("/v1/oidc/login", key=None).body["error"]


@pytest.mark.parametrize(
    "body,field",
    [
        ({"issuer": "http://login.example"}, "issuer"),
        ({"issuer": 5}, "issuer"),
        ({"client_id": ""}, "client_id"),
        ({"url": "ftp://x"}, "url"),
        ({"scopes": "email"}, "scopes"),
        ({"roles": {}}, "roles"),
        ({"roles": [{"group": "g", "role": "root", "of": "default"}]}, "roles.role"),
        ({"roles": [{"group": "g", "role": "read", "reach": "world"}]}, "roles.reach"),
        ({"roles": [{"group": "g", "role": "read"}]}, "of"),
        ({"sign_up": "yes"}, "sign_up"),
        ({"client_secret": "x"}, "client_secret"),
        ({"client_secret_file": "/nowhere/x"}, "client_secret_file"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path: Path, body: dict[str, Any], field: str) -> None:
    path = tmp_path / "oidc.json"
    path.write_text(json.dumps({"issuer": "https://l.example", "client_id": "x", "url": "https://l.example", **body}))
    with pytest.raises(Refused) as error:
        oidc.read(str(path), {})
    assert error.value.field == field


def test_settings_of_a_file(tmp_path: Path) -> None:
    path, secret = tmp_path / "oidc.json", tmp_path / "secret"
    secret.write_text("hush\n")
    good = {"issuer": "https://l.example", "client_id": "x", "url": "https://c.example/"}
    path.write_text(json.dumps(good))
    assert oidc.read(str(path), {"AICG_OIDC_SECRET": "s"}).secret == "s"
    assert oidc.read(str(path), {}).redirect == "https://c.example/v1/oidc/callback"
    path.write_text(json.dumps({**good, "client_secret_file": str(secret)}))
    assert oidc.read(str(path), {}).secret == "hush"
    path.write_text("{")
    for missing in (path, tmp_path / "none"):
        with pytest.raises(LedgerError):
            oidc.read(str(missing), {})
