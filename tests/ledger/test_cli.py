"""The command line: the same answers as the API, errors with a way out, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aicostguard import ledger
from aicostguard.cli import VERBS, main
from tests.ledger.support import KEY, ROOT, aicg, answering, envelope, environment, receipt, served, serving, take


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    bodies = [receipt(feature="chat", team="a"), receipt(feature="chat", model="unheard-of"), receipt(feature="rag")]
    take(store, envelope(bodies))
    store.close()
    return path


def test_a_table_shows_money_and_what_it_leaves_out(filled: Path) -> None:
    shown = aicg("costs", "--db", str(filled), "--by", "feature,model", "--since", "24h")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["feature", "model", "cost", "calls", "input", "cached", "output"]
    assert "unpriced" in shown.stdout
    assert "! 1 call without a price" in shown.stdout
    ends = {line.index("$") for line in lines[1:3] if "$" in line}
    assert len(ends) == 1, "money is aligned"


def test_file_and_http_give_the_same(filled: Path) -> None:
    asked = ("costs", "--by", "feature,model", "--since", "7d", "--where", "feature=chat", "--json")
    from_file = json.loads(aicg(*asked, "--db", str(filled)).stdout)
    store = ledger.open_ledger(str(filled))
    with serving(store) as server:
        url = f"http://127.0.0.1:{server.port}"
        over_http = aicg(*asked, "--url", url, "--key", KEY)
        by_environment = aicg(*asked, AICG_URL=url, AICG_KEY=KEY)
        wrong = aicg(*asked, "--url", url, "--key", "aicg_" + "w" * 40)
        refused = aicg("costs", "--url", url, "--key", KEY, "--tz", "Mars")
    store.close()
    assert json.loads(over_http.stdout) == from_file == json.loads(by_environment.stdout)
    assert from_file["totals"]["calls"] == 2
    assert (wrong.returncode, refused.returncode) == (1, 2)
    assert "not known" in wrong.stderr
    assert "tz" in refused.stderr


def test_csv(filled: Path) -> None:
    lines = aicg("costs", "--db", str(filled), "--by", "feature", "--csv").stdout.splitlines()
    assert lines[0].startswith("feature,cost_usd,cost_nanousd,calls")
    assert [line.split(",")[0] for line in lines[1:]] == ["chat", "rag"]


def test_an_empty_ledger_says_what_to_do_next(tmp_path: Path, filled: Path) -> None:
    path = tmp_path / "empty.db"
    ledger.open_ledger(str(path)).close()
    empty = aicg("costs", "--db", str(path))
    assert empty.returncode == 0
    for words in ("aicg serve", "AICG_URL", "import aicostguard.auto", "aicg diagnose"):
        assert words in empty.stdout
    none = aicg("costs", "--db", str(filled), "--where", "team=nobody")
    assert none.returncode == 0
    assert "--since all" in none.stdout
    missing = aicg("costs", AICG_DATA_DIR=str(tmp_path / "nowhere"))
    assert missing.returncode == 1
    assert "aicg serve" in missing.stderr
    assert not (tmp_path / "nowhere").exists(), "a question makes no file"


@pytest.mark.parametrize(
    "arguments,status,words",
    [
        (("costs", "--by", "prompt"), 2, "--by: "),
        (("costs", "--since", "soon"), 2, "since"),
        (("costs", "--where", "prompt=x"), 2, "NAME=VALUE"),
        (("costs", "--limit", "0"), 2, "limit"),
        (("costs", "--nope"), 2, "No such option"),
        (("nope",), 2, "nope"),
        (("keys", "revoke", "aicg_"), 2, "nine"),
        (("costs", "--url", "http://127.0.0.1:9", "--key", "k"), 1, "is `aicg serve` running?"),
        (("costs", "--url", "ftp://x", "--key", "k"), 1, "http"),
        (("costs", "--url", "http://[::1", "--key", "k"), 1, "is no address of a ledger"),
        (("costs", "--url", "http://x:port", "--key", "k"), 1, "is no address of a ledger"),
        (("costs", "--url", "http://127.0.0.1:9"), 1, "AICG_KEY"),
    ],
)
def test_exit_codes_and_reasons(filled: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    more = {} if "--url" in arguments else {"AICG_DATA_DIR": str(filled.parent)}
    done = aicg(*arguments, **more)
    assert done.returncode == status, done
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 500\r\n\r\n"]
)
def test_what_is_no_ledger_is_said_in_a_line(said: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(said) as url:
        assert main(["costs", "--url", url, "--key", "k"]) == 1
    assert url in capsys.readouterr().err


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    with served(tmp_path) as (_, server):
        database = str(tmp_path / "ledger.db")
        made = aicg("keys", "create", "--db", database, "--name", "ci", "--scope", "ingest")
        key = made.stdout.strip()
        assert server.post(envelope([receipt()]), key=key).status == 200
        assert server.get("/v1/costs", key=key).status == 403
        listed = aicg("keys", "list", "--db", database).stdout
        assert key[:9] + "•" in listed
        assert key not in listed
        assert aicg("keys", "revoke", key[:9], "--db", database).returncode == 0
        assert server.post(envelope([receipt()]), key=key).status == 401
        again = aicg("keys", "revoke", key[:9], "--db", database)
        assert again.returncode == 1
        assert "revoked" in aicg("keys", "list", "--db", database).stdout


def test_help_is_everywhere() -> None:
    whole = aicg("--help")
    assert whole.returncode == 0
    for verb in VERBS:
        assert verb in whole.stdout
        if verb not in ("diagnose", "run"):
            one = aicg(verb, "--help")
            assert one.returncode == 0
            assert len(one.stdout.splitlines()) > 8
    assert aicg("--version").stdout.startswith("aicg ")


def _bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`aicg` in an interpreter that sees no installed package."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "aicostguard.cli", *arguments],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("verb", ["serve", "costs", "keys"])
def test_without_the_extra_a_verb_says_what_it_needs(verb: str) -> None:
    done = _bare(verb)
    assert done.returncode == 1
    assert f"aicg {verb} needs pip install 'aicostguard[server]'" in done.stderr


def test_the_core_alone_has_help_and_diagnose(tmp_path: Path) -> None:
    assert "diagnose" in _bare("--help").stdout
    assert _bare("nope").returncode == 2
    pytest.importorskip("aicostguard.diagnostics", reason="diagnostics is not written yet")
    done = _bare("diagnose", "--help")
    assert done.returncode == 0, done.stderr
    assert aicg("diagnose", "--help").stdout == done.stdout
