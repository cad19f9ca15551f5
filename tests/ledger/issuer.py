"""An OpenID Connect provider on this machine: it describes itself, publishes keys, and gives a token for a code, once.

What it says can be bent by `wrong`: each entry there is one way in which a provider, or somebody between, may lie.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import secrets
import threading
import time
import urllib.parse
from typing import Any, Callable, Iterator

from joserfc import jwk, jwt


class Issuer:
    """`claims` and `header` change what a token says; `sign` makes it of both."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.name = self.url
        self.key = _key("first")
        self.published = [self.key]
        self.person: dict[str, Any] = {
            "sub": "ada-1",
            "email": "ada@example.com",
            "email_verified": True,
            "name": "Ada",
        }
        self.claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.secrets: list[str] = []

    def signed(self, claims: dict[str, Any], key: Any = None, **header: Any) -> str:
        key = key or self.key
        return jwt.encode({"alg": "RS256", "kid": key.kid, **header}, claims, key)

    def rotate(self) -> None:
        """Sign with another key; only that one is published from now on."""
        self.key = _key(secrets.token_hex(4))
        self.published = [self.key]

    def visited(self, query: dict[str, str]) -> str:
        """What a browser sent to `authorization_endpoint` is sent back to, once somebody has logged in here."""
        code = secrets.token_hex(8)
        self.codes[code] = query
        back = urllib.parse.urlencode({"code": code, "state": query["state"]})
        return f"{query['redirect_uri']}?{back}"

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.name, "aud": asked["client_id"], "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        return 200, {"id_token": self.sign(self.claims({**claims, **self.person})), "token_type": "Bearer"}

    def described(self) -> dict[str, Any]:
        return {
            "issuer": self.name,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }


def _key(kid: str) -> Any:
    return jwk.RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})


class _Handler(http.server.BaseHTTPRequestHandler):
    issuer: Issuer

    def _say(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.issuer.asked.append(self.path)
        if self.path == "/.well-known/openid-configuration":
            self._say(200, self.issuer.described())
        elif self.path == "/keys":
            self._say(200, {"keys": [key.as_dict(private=False) for key in self.issuer.published]})
        elif self.path.startswith("/authorize?"):  # whoever comes here is logged in, and is sent back at once
            asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            self.send_response(302)
            self.send_header("Location", self.issuer.visited(asked))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._say(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.issuer.secrets.append(self.headers.get("Authorization", ""))
        self._say(*self.issuer.token(dict(urllib.parse.parse_qsl(body))))

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def running() -> Iterator[Issuer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    issuer = Issuer(server.server_address[1])
    _Handler.issuer = issuer
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
