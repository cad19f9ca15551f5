"""The chart of what an alert speaks of: in a webhook's body, beside a mail; and never in the way of the alert."""

from __future__ import annotations

import base64
import json
import socket
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, Iterator

import pytest

from aicostguard.ledger import query
from aicostguard.ledger.alerts import picture
from aicostguard.ledger.alerts.watch import Settings, settings
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web.charts import draw
from tests.ledger.alerting import DAY, HOUR, Receiver, Town, receiving

pytest.importorskip("vl_convert")
pytest.importorskip("apprise")
aiosmtpd = pytest.importorskip("aiosmtpd.controller")

WITH = Settings("https://costs.example", "127.0.0.1")
PNG = b"\x89PNG\r\n"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time; what is tested is not how fast it is."""
    monkeypatch.setattr(picture, "DEADLINE_S", 300.0)


@pytest.fixture
def town(store: SqliteStore) -> Town:
    made = Town(store, settings=WITH)
    made.only()
    made.office.add_rule({"name": "daily_spend", "kind": "spend", "threshold": 10, "action": "alert"})
    return made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def tell(town: Town, receiver: Receiver) -> dict[str, Any]:
    town.office.add_channel({"name": "ops", "url": receiver.url, "secret": "whsec_of-a-test-only-000"})
    town.spend(12.5)
    town.look()
    town.watch.deliver()
    said: dict[str, Any] = receiver.bodies[-1]
    return said


def test_a_webhook_carries_the_chart_of_what_it_speaks_of(town: Town, receiver: Receiver) -> None:
    town.spend(4, ago_ms=3 * DAY, model="gpt-4o-mini")
    chart = tell(town, receiver)["chart"]
    assert base64.b64decode(chart["base64"]).startswith(PNG) and chart["content_type"] == "image/png"
    assert chart["title"] == "Spend by day, model"
    assert "$16.50 from 2026-11-12 to 2026-11-25 by day" in chart["description"]
    assert town.watch.pictures.counts == {"drawn": 1, "failed": 0, "none": 0}


def test_the_same_message_each_time_it_is_tried_and_the_chart_is_drawn_once(town: Town, receiver: Receiver) -> None:
    receiver.answer = lambda number: (503, {}) if number < 3 else (204, {})
    tell(town, receiver)
    while len(receiver.requests) < 3:
        town.now_ms += 60_000
        town.watch.deliver()
    assert len({body for _, body, _ in receiver.requests}) == 1
    assert town.watch.pictures.counts["drawn"] == 1


@pytest.mark.ids("A30")
def test_a_mail_has_it_as_a_file(town: Town) -> None:
    seen: list[Any] = []

    class Keep:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            seen.append(envelope)
            return "250 OK"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    smtp = aiosmtpd.Controller(Keep(), hostname="127.0.0.1", port=port)
    smtp.start()
    try:
        town.office.add_channel(
            {"name": "mail", "url": f"mailto://127.0.0.1:{port}?from=a@example.com&to=b@example.com&mode=insecure"}
        )
        town.spend(12.5)
        town.look()
        town.watch.deliver()
    finally:
        smtp.stop()
    mail = message_from_bytes(seen[0].content, policy=policy.default)
    (file,) = mail.iter_attachments()
    assert file.get_filename() == "chart.png" and file.get_content_type() == "image/png"
    assert file.get_content().startswith(PNG)
    text = mail.get_body(("plain",))
    assert text is not None and "Daily spend $12.50 exceeds threshold" in text.get_content()


@pytest.mark.parametrize("how", ["ends", "stalls", "raises"])
def test_a_drawing_that_fails_sends_the_alert_without_and_is_counted(
    town: Town, receiver: Receiver, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import time, sys\n" + ("time.sleep(600)\n" if how == "stalls" else "sys.exit(7)\n"))
    monkeypatch.setattr(draw, "_DRAWER", str(bad))
    monkeypatch.setattr(picture, "DEADLINE_S", 2.0)
    if how == "raises":
        monkeypatch.setattr(picture, "chart", lambda *_: 1 / 0)
    said = tell(town, receiver)
    assert said["chart"] is None and said["text"] == "Daily spend $12.50 exceeds threshold"
    assert town.watch.pictures.counts == {"drawn": 0, "failed": 1, "none": 0}
    # The next is not tried at once: alerts do not wait for what has just failed.
    monkeypatch.setattr(draw, "draw", lambda *_, **__: pytest.fail("it was tried again"))
    town.now_ms += DAY
    town.spend(13)
    town.look()
    town.watch.deliver()
    assert len(receiver.requests) > 1 and town.watch.pictures.counts["failed"] == 2


def test_a_picture_that_is_too_large_stays_here(
    town: Town, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "MOST_BYTES", 100)
    assert tell(town, receiver)["chart"] is None
    assert town.watch.pictures.counts["failed"] == 1


def test_without_the_package_alerts_go_as_before(
    town: Town, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "PACKAGE", "no_such_package_anywhere")
    assert tell(town, receiver)["chart"] is None
    assert not any(town.watch.pictures.counts.values())


def test_charts_are_switched_off_by_a_setting(store: SqliteStore, receiver: Receiver) -> None:
    assert settings({}).charts and not settings({"AICG_ALERT_CHARTS": "0"}).charts
    with pytest.raises(LedgerError, match="AICG_ALERT_CHARTS: 'maybe' is neither 1"):
        settings({"AICG_ALERT_CHARTS": "maybe"})


VIEW = {"since": "2026-11-25T00:00:00+00:00", "until": "2026-11-26T00:00:00+00:00", "group_by": "model"}


def asked(town: Town, kind: str, unit: str = "usd", period: str = "", **view: Any) -> tuple[Any, list[Any]]:
    """The chart of a message, and what was asked for it."""
    seen: list[Any] = []

    def ask(parameters: dict[str, Any]) -> dict[str, Any]:
        seen.append(parameters)
        given = {name: [value] if isinstance(value, str) else list(value) for name, value in parameters.items()}
        return query.run(town.store, query.parse(given, town.project, town.now_ms))

    alert = {"view": {**VIEW, **view}, "group": {"team": "search"}, "unit": unit, "line_nano": 10**10}
    message = {"kind": kind, "rule": "r", "period": period, "timezone": "Europe/Berlin", "alerts": [alert]}
    return picture.chart(message, ask, town.now_ms), seen


@pytest.mark.parametrize(
    ("period", "since", "first"),
    [
        ("hour", "2026-11-25T11:00:00+00:00", "2026-11-24T12:00:00+00:00"),
        ("day", "2026-11-24T23:00:00+00:00", "2026-11-11T23:00:00+00:00"),
        ("week", "2026-11-22T23:00:00+00:00", "2026-10-04T22:00:00+00:00"),
        ("month", "2026-10-31T23:00:00+00:00", "2026-05-31T22:00:00+00:00"),
    ],
)
def test_a_rule_of_spend_shows_whole_periods_by_its_own_clock(town: Town, period: str, since: str, first: str) -> None:
    town.spend(3, team="search")
    found, ((parameters),) = asked(town, "spend", period=period, since=since, team="search")
    assert (parameters["since"], parameters["tz"]) == (first, "Europe/Berlin")
    assert parameters["group_by"] == f"{period},model" and parameters["team"] == "search"
    assert '"threshold $10.00"' in json.dumps(found.spec)


def test_each_kind_that_speaks_of_money_has_a_chart_and_no_other(town: Town) -> None:
    town.spend(3, team="search", ago_ms=HOUR)
    for kind in ("single_request", "rate_spike", "budget", "cost_per_call", "test"):
        found, _ = asked(town, kind)
        assert found.spec is not None, kind
    for kind in ("unpriced", "deliveries"):
        assert asked(town, kind) == (None, [])
    assert asked(town, "query", "calls") == (None, [])


def test_a_group_of_a_question_is_shown_among_the_others(town: Town) -> None:
    town.spend(3, team="search")
    town.spend(2, team="ads")
    found, (parameters,) = asked(town, "query", group_by="team", team="search", model="gpt-4o")
    assert "team" not in parameters and parameters["model"] == "gpt-4o"
    assert [one["n"] for one in found.spec["data"]["values"]] == ["search", "ads"]
