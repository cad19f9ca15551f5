"""How the ledger stands in the network: TLS, names, proxies' words, and what is said at the start."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from pathlib import Path

import pytest

from aicostguard.ledger.access import exposed
from aicostguard.ledger.access.exposed import Exposed
from aicostguard.ledger.errors import NotWritable, Refused
from tests.ledger.support import Server, aicg, command, environment, served


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of this machine's own, and its key."""
    from datetime import datetime, timedelta, timezone
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return str(cert), str(private)


def test_a_ledger_on_this_machine_answers_to_this_machines_names(tmp_path: Path) -> None:
    with served(tmp_path, "--allow-host", "ledger.example") as (_, server):
        for host in ("127.0.0.1", "localhost:8090", "LOCALHOST", "[::1]:8090", "ledger.example"):
            assert server.get("/v1/health", key=None, Host=host).status == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "localhost.evil", "<b>"):
            reply = server.get("/v1/health", key=None, Host=host)
            assert (reply.status, reply.body["field"]) == (403, "Host"), host
            assert "--allow-host" in reply.body["detail"] and "x-frame-options" in reply.headers


def _address_seen(server: Server, key: str, **headers: str) -> str:
    body = json.dumps({"roles": ["ingest"]}).encode()
    assert server.ask("POST", "/v1/keys", body, key=key, **headers).status == 201
    return str(server.get("/v1/audit?limit=1", key=key).body["entries"][0]["address"])


@pytest.mark.parametrize("trusted,seen", [("", "127.0.0.1"), ("10.9.9.9", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.7")])
def test_a_proxys_word_counts_if_it_is_named(tmp_path: Path, trusted: str, seen: str) -> None:
    key = (aicg("keys", "create", "--role", "admin", "--db", str(tmp_path / "ledger.db"))).stdout.strip()
    more = ("--forwarded-allow", trusted) if trusted else ()
    with served(tmp_path, *more) as (_, server):
        assert _address_seen(server, key, X_Forwarded_For="203.0.113.7") == seen


def test_https(tmp_path: Path, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    process = subprocess.Popen(
        command("serve", "--port", "0", "--db", str(tmp_path / "ledger.db"), "--tls-cert", cert, "--tls-key", key),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "https://127.0.0.1:" in line, line
        port = int(line.split(":")[2].split()[0])
        while not process.stdout.readline().startswith("  ask"):
            pass
        context = ssl.create_default_context(cafile=cert)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
        connection.request("GET", "/v1/health")
        reply = connection.getresponse()
        assert (reply.status, json.loads(reply.read())) == (200, {"status": "ok"})
        connection.close()
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.request("GET", "/v1/health")
            plain.getresponse()
        plain.close()
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_what_cannot_be_is_said_before_anything_is_touched(tmp_path: Path, certificate: tuple[str, str]) -> None:
    other = tmp_path / "no.pem"
    other.write_text("no key")
    for given, words in (
        (("--tls-key", certificate[1]), "--tls-cert"),
        (("--tls-cert", str(other)), "cannot be used for TLS"),
        (("--tls-cert", certificate[0], "--tls-key", "/nowhere/key.pem"), "cannot be used for TLS"),
        (("--forwarded-allow", "*"), "name those of your proxies"),
        (("--oidc", str(other)), "is not JSON"),
    ):
        done = aicg("serve", "--port", "0", "--db", str(tmp_path / "x" / "ledger.db"), *given)
        assert done.returncode in (1, 2) and words in done.stderr, done
    assert not (tmp_path / "x").exists()


def test_names_and_checks() -> None:
    for host, name in (
        ("a.example:80", "a.example"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("A", "a"),
        ("a:b:c", "a:b:c"),
    ):
        assert exposed.named(host) == name
    assert Exposed().hosts("0.0.0.0") is None
    assert Exposed(allow_host=("l.example",)).hosts("0.0.0.0") is not None
    assert Exposed().for_uvicorn()["proxy_headers"] is False
    with pytest.raises(Refused):
        Exposed(forwarded_allow="10.0.0.1, proxy").check()
    with pytest.raises(NotWritable):
        Exposed(tls_cert="/nowhere").check()
