"""`aicg budgets`: the same over a file and over HTTP, bars for people, exit codes for programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aicostguard import ledger
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.budget_lines import run, told
from tests.ledger.support import KEY, Server, aicg, envelope, receipt, take


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def test_add_set_show_remove_on_a_file(path: str) -> None:
    assert "aicg budgets add marketing --usd 500" in run("add", "--help")[1]
    made = told("add", "marketing", "--usd", "500", "--match", "team=marketing", "--period", "month", "--db", path)
    assert (made["limit_usd"], made["match"], made["period"]) == ("500", {"team": "marketing"}, "month")
    assert run("add", "marketing", "--usd", "1", "--db", path)[0] == 2
    store = ledger.open_ledger(path)
    take(store, envelope([receipt(team="marketing")] * 2 + [receipt(model="unheard-of", team="marketing")]))
    store.close()
    changed = told("set", "marketing", "--alert-at", "50%", "--tz", "Asia/Tokyo", "--db", path)
    assert (changed["limit_usd"], changed["alert_at"], changed["timezone"]) == ("500", [0.5], "Asia/Tokyo")
    assert changed["match"] == {"team": "marketing"}
    assert told("set", "marketing", "--tokens", "1000", "--db", path)["spent_tokens"] == 330
    assert told("set", "marketing", "--usd", "0.01", "--db", path)["spent_usd"] == "0.00000066"
    code, shown = run("show", "marketing", "--db", path)
    assert code == 0
    for words in ("created", "changed", "limit 1,000", "$0.01", "1 counted without a price"):
        assert words in shown
    assert run("remove", "marketing", "--db", path) == (0, "removed marketing\n")
    code, text = run("show", "marketing", "--db", path)
    assert (code, "there is none yet" in text) == (1, True)


def test_check_says_by_its_exit_code_that_a_budget_is_used_up(path: str) -> None:
    code, text = run("--check", "--db", path)
    assert (code, "aicg serve" in text) == (1, True)
    told("add", "default", "--usd", "50", "--spent", "49.9", "--db", path)
    code, text = run("--check", "--db", path)
    assert code == 0
    assert "█" * 19 in text
    assert "Budget utilization 99.8% exceeds alert threshold 90%" in text
    told("set", "default", "--spent", "50", "--adjust", "--db", path)
    assert run("--check", "--db", path)[0] == 3
    assert run("--db", path)[0] == 0
    assert aicg("budgets", "--check", "--db", path).returncode == 3


@pytest.mark.ids("D4")
def test_rebuild(path: str) -> None:
    told("add", "default", "--usd", "5", "--db", path)
    store = ledger.open_ledger(path)
    take(store, envelope([receipt()] * 7))
    store.change(lambda connection: connection.execute("UPDATE budget_counters SET spent = 99"))
    store.close()
    for _ in range(2):
        assert run("rebuild", "--db", path) == (0, "counted anew: default\n")
        assert told("show", "default", "--db", path)["spent_usd"] == "0.00000231"
    assert run("rebuild", "other", "--db", path)[0] == 1


def test_over_http_as_on_the_file(server: Server, store: SqliteStore) -> None:
    at = ("--url", f"http://127.0.0.1:{server.port}", "--key", KEY)
    told("add", "a/b c", "--requests", "5", "--per", "user", *at)
    take(store, envelope([receipt(user="u")] * 2))
    over_http, on_file = told(*at), told("--db", store.path)
    for answer in (over_http, on_file):
        assert answer["budgets"][0]["scopes"][0]["remaining_requests"] == 3
        answer["budgets"][0]["scopes"][0].pop("burn_per_hour_requests")
        answer["budgets"][0]["scopes"][0].pop("exhausted_at")
    assert over_http == on_file
    assert run("rebuild", *at) == (0, "counted anew: a/b c\n")
    assert run("remove", "a/b c", *at)[0] == 0
    code, text = run("remove", "a/b c", *at)
    assert (code, "there is none yet" in text) == (1, True)
    assert run(*at)[1].startswith("No budgets yet")


@pytest.mark.parametrize(
    "arguments,status,words",
    [
        (("add", "x"), 2, "give one of --usd, --tokens, --requests"),
        (("add", "x", "--usd", "-1"), 2, "--usd: '-1' cannot be used"),
        (("add", "x", "--usd", "1", "--period", "daily"), 2, "'daily' is not one of"),
        (("add", "x", "--usd", "1", "--match", "team"), 2, "LABEL=VALUE"),
        (("add", "x", "--usd", "1", "--per", "teem"), 2, "did you mean team"),
        (("add", "x", "--usd", "1", "--tz", "Berlin"), 2, "Europe/Berlin"),
        (("add", "x", "--usd", "1", "--tokens", "1"), 2, "are both given"),
        (("set", "x", "--usd", "1"), 1, "there is no budget 'x'"),
        (("show", "x"), 1, "there is no budget 'x'"),
    ],
)
def test_a_mistake_names_its_remedy(path: str, arguments: tuple[str, ...], status: int, words: str) -> None:
    ledger.open_ledger(path).close()
    code, text = run(*arguments, "--db", path)
    assert (code, words in text) == (status, True), text


def test_the_list_of_verbs_names_it() -> None:
    done: subprocess.CompletedProcess[str] = aicg("--help")
    assert "budgets" in done.stdout
