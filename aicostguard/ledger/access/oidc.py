"""Log-in through an OpenID Connect provider: authorization code with PKCE, state and nonce.

Owns the settings, what is asked of the provider, and every check of its answer before anybody is believed to be
somebody. The token's signature and claims are read by joserfc, with a closed list of algorithms that all need the
provider's private key: a token without a signature, or one "signed" with a public key as if it were a secret, is
refused by name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
import urllib.parse
from typing import Any, Mapping, NamedTuple

import httpx
from joserfc import errors, jwt
from joserfc.jwk import KeySet

from aicostguard.config import LOOPBACK
from aicostguard.ledger.access import names, people
from aicostguard.ledger.access.principal import LEDGER, REACHES
from aicostguard.ledger.errors import LedgerError, NotWritable, Refused

#: where the secret of the client is looked for
SECRET = "AICG_OIDC_SECRET"
#: each of them needs the private half of a key whose public half the provider publishes
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
TIMEOUT_S = 10.0
#: what a provider publishes is asked for anew after this; keys sooner, when a token names one that is not among them
FRESH_S, KEYS_AGAIN_S = 3600.0, 10.0
#: clocks may differ by so much
LEEWAY_S = 60
_MOST_REPLY = 1 << 20
_KNOWN = (
    "issuer",
    "client_id",
    "client_secret_file",
    "url",
    "scopes",
    "groups_claim",
    "roles",
    "sign_up",
    "verified_email",
)


class Grant(NamedTuple):
    """People of a group have a role: `of` names the project or organisation, "" for the whole ledger."""

    group: str
    role: str
    reach: str
    of: str


class Settings(NamedTuple):
    issuer: str
    client_id: str
    #: where browsers reach this ledger
    url: str
    secret: str | None = None
    scopes: str = "openid email profile"
    groups_claim: str = "groups"
    roles: tuple[Grant, ...] = ()
    #: somebody whom nobody has given an account, and no group a role, gets one without any
    sign_up: bool = False
    #: an address counts only if the provider says that it was verified
    verified_email: bool = True

    @property
    def redirect(self) -> str:
        return self.url.rstrip("/") + "/v1/oidc/callback"


class Claims(NamedTuple):
    """What of a checked token is used."""

    subject: str
    email: str | None
    verified: bool
    name: str
    groups: tuple[str, ...]


def read(path: str, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in a JSON file. Raises `NotWritable` for one that cannot be read, `Refused` naming what is wrong."""
    try:
        with open(path, encoding="utf-8") as file:
            body = json.load(file)
    except OSError as error:
        raise NotWritable(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NotWritable(f"{path} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise NotWritable(f"{path} must hold a JSON object; docs/access.md shows one")
    secret = (os.environ if environ is None else environ).get(SECRET)
    if "client_secret_file" in body:
        try:
            with open(_text(body, "client_secret_file"), encoding="utf-8") as file:
                secret = file.read().strip()
        except OSError as error:
            raise Refused(422, f"cannot be read: {error.strerror}", "client_secret_file") from error
    return parse(body, secret)


def parse(body: Mapping[str, Any], secret: str | None) -> Settings:
    """Settings from their JSON. Raises `Refused` (422)."""
    names.only(body, _KNOWN, "a setting of OpenID Connect")
    grants = body.get("roles", [])
    if not isinstance(grants, list) or not all(isinstance(item, dict) for item in grants):
        raise Refused(422, 'must be a list like [{"group": "finops", "role": "read", "of": "default"}]', "roles")
    scopes = body.get("scopes", Settings._field_defaults["scopes"])
    if not isinstance(scopes, str) or "openid" not in scopes.split():
        raise Refused(422, "must be words with openid among them", "scopes")
    return Settings(
        _address(body, "issuer"),
        _text(body, "client_id"),
        _address(body, "url"),
        secret or None,
        scopes,
        _text({"groups_claim": "groups", **body}, "groups_claim"),
        tuple(_grant(item) for item in grants),
        names.truth(body.get("sign_up", False), "sign_up"),
        names.truth(body.get("verified_email", True), "verified_email"),
    )


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise Refused(422, "must be given, as text", name)
    return value


def _address(body: Mapping[str, Any], name: str) -> str:
    value = _text(body, name)
    if not _secure(value):
        raise Refused(422, "must be an https:// address (http only for one on this machine)", name)
    return value


def _secure(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))


def _grant(item: Mapping[str, Any]) -> Grant:
    names.only(item, ("group", "role", "reach", "of"), "a key of a role")
    reach = names.one_of(item.get("reach", "project"), REACHES, "roles.reach")
    of = "" if reach == LEDGER else _text({"of": item.get("of")}, "of")
    return Grant(_text(item, "group"), names.one_of(item.get("role"), people.ROLES, "roles.role"), reach, of)


class Provider:
    """One provider, as it describes itself, and its answers checked."""

    def __init__(self, settings: Settings, client: httpx.Client | None = None) -> None:
        self.settings = settings
        # No redirect is followed: the client's secret goes to the address that was configured, and to no other.
        self._client = client or httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=True)
        self._lock = threading.Lock()
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def close(self) -> None:
        self._client.close()

    def begin(self, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent to log in."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.redirect,
            "scope": self.settings.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urllib.parse.urlencode(asked)}"

    def finish(self, code: str, nonce: str, verifier: str) -> Claims:
        """Who logged in there. Raises `Refused` (401) saying which check failed, `Unavailable` without an answer."""
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.redirect,
            "client_id": self.settings.client_id,
            "code_verifier": verifier,
        }
        auth = None
        if self.settings.secret is not None:
            methods = self._described().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            if "client_secret_basic" in methods:
                quoted = (urllib.parse.quote(self.settings.client_id, ""), urllib.parse.quote(self.settings.secret, ""))
                auth = httpx.BasicAuth(*quoted)
            else:
                sent["client_secret"] = self.settings.secret
        status, body = self._exchange("POST", self._endpoint("token_endpoint"), data=sent, auth=auth)
        if status != 200:
            raise Refused(
                401, f"the provider does not take the code ({_word(body.get('error'))}); log in again", "code"
            )
        token = body.get("id_token")
        if not isinstance(token, str):
            raise Refused(401, "the provider's answer holds no id_token; is openid among the scopes?", "id_token")
        return self.check(token, nonce)

    def check(self, token: str, nonce: str) -> Claims:
        """What a token says, if it is for us, of now, by this provider, and for this log-in. Raises `Refused` (401)."""
        try:
            found = self._decoded(token)
            registry = jwt.JWTClaimsRegistry(
                now=lambda: int(time.time()),
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.settings.issuer},
                sub={"essential": True},
                aud={"essential": True, "value": self.settings.client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            )
            registry.validate(found.claims)
        except errors.JoseError as error:
            raise Refused(401, f"the provider's token is refused: {_reason(error)}", "id_token") from None
        except (ValueError, TypeError):  # what is no token at all
            raise Refused(401, "the provider's token is refused: it cannot be read", "id_token") from None
        claims = found.claims
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", self.settings.client_id if len(audience) == 1 else None) != self.settings.client_id:
            raise Refused(401, "the provider's token is refused: it was given to another program (azp)", "id_token")
        groups = claims.get(self.settings.groups_claim, [])
        email = claims.get("email")
        return Claims(
            str(claims["sub"])[:255],
            email if isinstance(email, str) else None,
            claims.get("email_verified") is True,
            name if isinstance(name := claims.get("name"), str) else "",
            tuple(item for item in (groups if isinstance(groups, list) else [groups]) if isinstance(item, str)),
        )

    def _decoded(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._keyset(), algorithms=ALGORITHMS)
        except errors.InvalidKeyIdError:
            # The provider may have changed its keys a moment ago.
            return jwt.decode(token, self._keyset(KEYS_AGAIN_S), algorithms=ALGORITHMS)

    def _described(self) -> dict[str, Any]:
        with self._lock:
            if self._metadata is None or time.monotonic() - self._metadata[0] > FRESH_S:
                url = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
                status, body = self._exchange("GET", url)
                if status != 200:
                    raise Unavailable(f"the provider does not describe itself at {url} (HTTP {status})")
                if body.get("issuer") != self.settings.issuer:
                    raise Unavailable(
                        f"the provider calls itself {_word(body.get('issuer'))}: set `issuer` to exactly that"
                    )
                self._metadata = (time.monotonic(), body)
            return self._metadata[1]

    def _endpoint(self, name: str) -> str:
        address = self._described().get(name)
        if not isinstance(address, str) or not _secure(address):
            raise Unavailable(f"the provider names no {name} that can be used")
        return address

    def _keyset(self, fresh_s: float = FRESH_S) -> KeySet:
        address = self._endpoint("jwks_uri")
        with self._lock:
            if self._keys is None or time.monotonic() - self._keys[0] > fresh_s:
                status, body = self._exchange("GET", address)
                if status != 200:
                    raise Unavailable(f"the provider does not say its keys (HTTP {status})")
                # Secret ones have no business there, and none that is no signature's key can sign.
                listed = [item for item in body.get("keys", ()) if isinstance(item, dict)]
                usable = [item for item in listed if item.get("kty") != "oct" and item.get("use", "sig") == "sig"]
                try:
                    self._keys = (time.monotonic(), KeySet.import_key_set({"keys": usable}))
                except (errors.JoseError, ValueError, TypeError, KeyError) as error:
                    raise Unavailable(f"the provider's keys cannot be read ({type(error).__name__})") from None
            return self._keys[1]

    def _exchange(self, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any]]:
        try:
            with self._client.stream(method, url, headers={"Accept": "application/json"}, **more) as reply:
                data = b""
                for part in reply.iter_bytes():
                    data += part
                    if len(data) > _MOST_REPLY:
                        raise Unavailable("the provider's answer is too large")
                found = json.loads(data) if data else {}
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"the provider does not answer ({type(error).__name__}); try again") from None
        except ValueError:
            found = {}
        return reply.status_code, found if isinstance(found, dict) else {}


class Unavailable(LedgerError):
    """The provider does not answer, or not as one does."""

    status = 502


_REASONS: Mapping[type[errors.JoseError], str] = {
    errors.ExpiredTokenError: "it has expired (exp)",
    errors.BadSignatureError: "its signature is wrong",
    errors.InvalidKeyIdError: "it is signed with a key that the provider does not publish",
    errors.UnsupportedAlgorithmError: "its algorithm is not one of " + ", ".join(ALGORITHMS),
}
_CLAIMS = {
    "iss": "another provider issued it (iss)",
    "aud": "it is for another program (aud)",
    "nonce": "it belongs to another log-in (nonce)",
}


def _reason(error: errors.JoseError) -> str:
    for kind, text in _REASONS.items():
        if isinstance(error, kind):
            return text
    claim = getattr(error, "claim", None)
    if isinstance(error, errors.MissingClaimError):
        return f"it lacks {claim}"
    return _CLAIMS.get(str(claim), f"{_word(claim)} does not fit" if claim else type(error).__name__)


def _word(value: object) -> str:
    """A word of the provider's, fit to be said: no more than a name or an address."""
    return ascii(str(value)[:100])[1:-1] if value else "nothing"
