"""Alerts on their way: to a real SMTP server and to HTTP receivers that fail, stall, redirect and die."""

from __future__ import annotations

import json
import socket
import time
from email import message_from_bytes, policy
from typing import Any, Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest

from aicostguard.ledger.access import places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.alerts import apprised, channel, outbox, target, telling, webhook, words
from aicostguard.ledger.alerts.watch import Settings, settings
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.alerting import DAY, LOOPBACK, MINUTE, Receiver, Town, receiving

pytest.importorskip("apprise")
aiosmtpd = pytest.importorskip("aiosmtpd.controller")

SECRET = "whsec_of-a-test-only-000"


@pytest.fixture
def town(store: SqliteStore) -> Town:
    made = Town(store)
    made.only()
    made.office.add_rule({"name": "daily_spend", "kind": "spend", "threshold": 10, "action": "alert"})
    return made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def tell(town: Town, receiver: Receiver, **more: Any) -> None:
    town.office.add_channel({"name": "ops", "url": receiver.url + "/hook?to=ops", "secret": SECRET, **more})
    town.spend(12.5)
    town.look()


def log(town: Town) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = town.office.log("ops", 50)["log"]
    return rows


@pytest.mark.ids("A30")
def test_a_webhook_is_signed_and_says_what_happened_and_where_to_look(town: Town, receiver: Receiver) -> None:
    tell(town, receiver)
    assert town.watch.deliver() == 1
    ((headers, body, path),) = receiver.requests
    assert path == "/hook?to=ops"
    assert headers["aicg-signature"] == webhook.sign(SECRET, headers["aicg-timestamp"], body)
    assert int(headers["aicg-timestamp"]) == town.now_ms // 1000
    said = json.loads(body)
    assert headers["idempotency-key"] == said["id"]
    assert (said["event"], said["rule"], said["action"]) == ("firing", "daily_spend", "alert")
    assert said["text"] == "Daily spend $12.50 exceeds threshold"
    (alert,) = said["alerts"]
    assert (alert["value"], alert["threshold"], alert["unit"]) == ("12.5", "10", "usd")
    assert alert["url"].startswith("https://costs.example/?since=2026-11-25T00%3A00%3A00%2B00%3A00&until=")
    assert town.watch.deliver() == 0
    assert [row["state"] for row in log(town)] == ["sent"]


def test_what_fails_is_tried_again_later_and_later_with_the_same_key(town: Town, receiver: Receiver) -> None:
    receiver.answer = lambda number: (503, {}) if number < 4 else (204, {})
    tell(town, receiver)
    waited = []
    while log(town)[0]["state"] != "sent":
        if not town.watch.deliver():
            town.now_ms += 1_000
        waited.append(town.now_ms)
        assert len(waited) < 120
    assert len({body["id"] for body in receiver.bodies}) == 1
    assert len({json.dumps(body) for body in receiver.bodies}) == 1, "the same message each time"
    (row,) = log(town)
    assert [attempt["said"] for attempt in row["attempts"]] == ["HTTP 503"] * 3 + ["HTTP 204"]
    delays = [outbox.delay_ms(n) for n in range(1, 15) for _ in range(50)]
    assert min(delays) >= 2_500 and max(delays) <= outbox.LONGEST_MS
    assert len(set(delays)) > 300, "not all at the same moment"


def test_who_says_when_is_believed_and_who_refuses_is_left_alone(town: Town, receiver: Receiver) -> None:
    receiver.answer = lambda number: (429, {"Retry-After": "600"}) if number == 1 else (410, {})
    tell(town, receiver)
    town.watch.deliver()
    town.now_ms += 590_000
    assert town.watch.deliver() == 0
    town.now_ms += 11_000
    assert town.watch.deliver() == 1
    town.now_ms += DAY
    assert town.watch.deliver() == 0
    assert log(town)[0]["state"] == "failed"


def test_it_is_given_up_after_some_hours_and_said(town: Town, receiver: Receiver) -> None:
    receiver.answer = lambda number: (500, {})
    tell(town, receiver)
    began = town.now_ms
    while log(town)[0]["state"] != "failed":
        assert town.now_ms - began < DAY
        town.watch.deliver()
        town.now_ms += MINUTE
    assert len(receiver.requests) == outbox.MOST_ATTEMPTS
    assert 1 <= (town.now_ms - began) / 3_600_000 <= 6


def test_redirects_are_not_followed(town: Town, receiver: Receiver) -> None:
    with receiving() as other:
        receiver.answer = lambda number: (307, {"Location": other.url})
        tell(town, receiver)
        town.watch.deliver()
        assert other.requests == []
    assert log(town)[0]["state"] == "failed"
    assert "redirects are not followed" in log(town)[0]["attempts"][0]["said"]


def test_a_receiver_that_stalls_is_left_after_the_deadline_and_holds_up_no_other(
    town: Town, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "DEADLINE_S", 1.0)
    receiver.answer = lambda number: None
    with receiving() as quick:
        town.office.add_channel({"name": "quick", "url": quick.url})
        tell(town, receiver)
        assert town.watch.deliver() == 2
        assert len(quick.requests) == 1
    assert log(town)[0]["state"] == "waiting"
    assert "no answer within 1 s" in log(town)[0]["attempts"][0]["said"]


def test_a_receiver_that_speaks_ever_so_slowly_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "DEADLINE_S", 1.0)
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    end = threading.Event()

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            while not end.wait(0.1):
                try:
                    peer.sendall(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    try:
        said = webhook.post(url, SECRET, "k", b"{}", time.time(), target.networks("127.0.0.1"), set())
        assert (said.ok, said.again) == (False, True)
    finally:
        end.set()
        thread.join(10)
        listener.close()


@pytest.mark.parametrize("allowed", ["", "10.0.0.0/8"])
def test_the_ledgers_own_network_is_out_of_reach_unless_its_operator_says_otherwise(
    store: SqliteStore, receiver: Receiver, allowed: str
) -> None:
    town = Town(store, settings=Settings("", allowed, charts=False))
    written = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]")
    for url in (receiver.url.replace("127.0.0.1", host) for host in written):
        town.office.add_channel({"name": "ops", "url": url, "secret": SECRET})
        (said,) = town.office.test("ops")["tested"]
        assert not said["ok"]
        assert "is not a public address; AICG_ALERT_PRIVATE=" in said["said"]
        town.office.remove_channel("ops")
    assert receiver.requests == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "192.168.0.1", "::1", "fe80::1%eth0", "fd00::1",
     "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::", "224.0.0.1", "100.64.0.1", "/run/socket"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused_however_they_are_written(address: str) -> None:
    assert target.why_not(address, [])


def test_public_addresses_and_those_that_are_allowed_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [target.why_not(address, []) for address in ("93.184.216.34", "2606:4700::1")] == ["", ""]
    allowed = target.networks("10.0.0.0/8, localhost")
    assert [target.why_not(one, allowed) for one in ("10.9.9.9", "127.0.0.1", "::1", "::ffff:10.0.0.1")] == [""] * 4
    assert target.why_not("192.168.0.1", allowed)
    with pytest.raises(LedgerError, match=r"AICG_ALERT_PRIVATE: 'intranet' is neither"):
        settings({"AICG_ALERT_PRIVATE": "intranet"})
    with pytest.raises(LedgerError, match=r"AICG_PUBLIC_URL: 'costs\.example' is no address"):
        settings({"AICG_PUBLIC_URL": "costs.example"})
    assert settings({"AICG_PUBLIC_URL": "https://costs.example/"}).public_url == "https://costs.example"


def test_beside_other_projects_a_link_says_which_it_speaks_of(town: Town, receiver: Receiver) -> None:
    tell(town, receiver)
    ((there),) = [alert["url"] for alert in town.office.alerts({})["alerts"]]
    assert "in=" not in there
    town.store.change(lambda connection: places.add_project(connection, 1, "search @ home", Actor("test"), 0))
    ((there),) = [alert["url"] for alert in town.office.alerts({})["alerts"]]
    own = town.store.look(lambda connection: places.project(connection, town.store.default_project()))
    assert dict(parse_qsl(urlsplit(there).query))["in"] == f"{own.organisation}/{own.name}"
    town.watch.deliver()
    assert receiver.bodies[0]["alerts"][0]["url"] == there


def test_who_is_killed_while_sending_sends_again_with_the_same_key(town: Town, receiver: Receiver) -> None:
    tell(town, receiver)
    taken = town.store.change(lambda connection: outbox.take(connection, town.now_ms))
    body = telling.payload(taken[0], "ops", words.Where(LOOPBACK.public_url))
    webhook.post(receiver.url, SECRET, taken[0].key, body, 0, target.networks("127.0.0.1"), set())
    later = town.again()  # and here it was killed: nobody wrote down that it was sent
    assert later.watch.deliver() == 0, "whoever had taken it may be at it"
    later.now_ms += outbox.LEASE_MS
    assert later.watch.deliver() == 1
    assert [h["idempotency-key"] for h, _, _ in receiver.requests] == [taken[0].key] * 2
    assert receiver.bodies[0] == receiver.bodies[1]
    later.now_ms += DAY
    assert later.watch.deliver() == 0


def test_two_processes_send_a_notice_once(town: Town, receiver: Receiver) -> None:
    tell(town, receiver)
    others = [town.again(), town.again()]
    assert sorted([town.watch.deliver(), *(other.watch.deliver() for other in others)]) == [0, 0, 1]
    assert len(receiver.requests) == 1


def test_what_is_cut_off_by_a_stop_stays_to_be_sent(town: Town, receiver: Receiver) -> None:
    import threading

    receiver.answer = lambda number: None
    tell(town, receiver)
    thread = threading.Thread(target=town.watch.deliver)
    thread.start()
    deadline = time.monotonic() + 20
    while not receiver.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    town.watch.stop()
    thread.join(8)
    assert not thread.is_alive(), "it does not wait for the receiver"
    assert log(town)[0]["state"] == "waiting"
    receiver.answer = lambda number: (200, {})
    assert town.again().watch.deliver() == 1


@pytest.mark.ids("A30")
@pytest.mark.parametrize(
    "given",
    ["https://hooks.example/S3CR3T-PATH?token=T0K3N", "slack://S3CR3TAAA/S3CR3TBBB/S3CR3TCCCS3CR3TCCCS3CR3T/#costs"],
)
def test_an_address_is_never_shown_again(town: Town, given: str, caplog: pytest.LogCaptureFixture) -> None:
    made = town.office.add_channel({"name": "ops", "url": given})
    changed = town.office.change_channel("ops", {"enabled": False})
    town.office.test("ops") if given.startswith("https") else None
    shown = json.dumps([made, changed, town.office.channels(), log(town)]) + caplog.text
    shown += repr(town.store.look(lambda connection: channel.need(connection, town.project, "ops")))
    assert "S3CR3T" not in shown
    assert "T0K3N" not in shown
    assert "••••" in made["url"]
    assert ("secret" in made) == given.startswith("https")
    assert "secret" not in changed


BAD = [
    ({"url": "https://x.example"}, "name"),
    ({"name": "a"}, "url"),
    ({"name": "a", "url": "hooks.example/S3CR3T"}, "url"),
    ({"name": "a", "url": "unheard://S3CR3T"}, "url"),
    ({"name": "a", "url": "https://user:S3CR3T@hooks.example/"}, "url"),
    ({"name": "a", "url": "http://[S3CR3T/"}, "url"),
    ({"name": "a", "url": "https://x.example/S3CR3T", "kind": "mail"}, "kind"),
    ({"name": "a", "url": "https://x.example/S3CR3T", "secret": "short"}, "secret"),
    ({"name": "a", "url": "https://x.example/S3CR3T", "adress": 1}, "adress"),
    ({"name": "a/b", "url": "https://x.example/S3CR3T"}, "name"),
]


@pytest.mark.parametrize("given, field", BAD)
def test_a_wrong_channel_is_refused_without_its_address(town: Town, given: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        town.office.add_channel(given)
    assert (refused.value.status, refused.value.field) == (422, field)
    assert "S3CR3T" not in str(refused.value)


class Mailbox:
    """What an SMTP server was handed."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    controller = aiosmtpd.Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


@pytest.mark.ids("A30", "E15")
def test_a_mail_arrives_at_a_real_smtp_server(town: Town, mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    url = f"mailto://127.0.0.1:{port}?from=ledger@example.com&to=ops@example.com&mode=insecure"
    made = town.office.add_channel({"name": "ops", "url": url})
    assert made["url"] == "mailto://•••• (E-Mail)"
    town.spend(12.5)
    town.spend(1, model="unheard-of")
    town.look()
    assert town.watch.deliver() == 1
    assert log(town)[0]["attempts"][0]["said"] == "taken by E-Mail"
    (mail,) = box.messages
    assert mail["Subject"] == "Daily spend $12.50 exceeds threshold"
    assert mail["To"] == "ops@example.com"
    text = mail.get_body(("plain",)).get_content()
    assert "https://costs.example/?since=" in text
    assert "1 call without a price in no sum" in text
    assert "Rule daily_spend, action: alert" in text


def test_a_service_is_held_to_the_allowed_addresses_by_whatever_library_it_connects(
    store: SqliteStore, mailbox: tuple[Mailbox, int], receiver: Receiver
) -> None:
    box, port = mailbox
    town = Town(store, settings=Settings("", "", charts=False))
    mail = f"mailto://127.0.0.1:{port}?from=ledger@example.com&to=ops@example.com&mode=insecure"
    for url in (mail, receiver.url.replace("http:", "json:") + "/x"):
        town.office.add_channel({"name": "ops", "url": url})
        (said,) = town.office.test("ops")["tested"]
        assert "127.0.0.1 is not a public address" in said["said"]
        town.office.remove_channel("ops")
    assert (box.messages, receiver.requests) == ([], [])


def test_a_service_follows_no_redirect(town: Town, receiver: Receiver) -> None:
    with receiving() as other:
        receiver.answer = lambda number: (302, {"Location": other.url})
        town.office.add_channel({"name": "ops", "url": receiver.url.replace("http:", "json:") + "/x"})
        (said,) = town.office.test("ops")["tested"]
        assert (said["ok"], len(receiver.requests), other.requests) == (False, 1, [])


def test_a_service_that_stalls_is_ended(town: Town, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.answer = lambda number: None
    town.office.add_channel({"name": "ops", "url": receiver.url.replace("http:", "json:") + "/x"})
    monkeypatch.setattr(apprised, "DEADLINE_S", 3.0)
    (said,) = town.office.test("ops")["tested"]
    assert not said["ok"]


@pytest.mark.ids("E08")
def test_slack_gets_the_line_of_the_source(town: Town) -> None:
    town.office.add_channel(
        {"name": "ops", "url": "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"}
    )
    town.spend(12.5)
    town.look()
    (notice,) = town.store.change(lambda connection: outbox.take(connection, town.now_ms))
    message = telling.text(notice, "slack://a/b/c", words.Where("https://costs.example"))
    assert message.body.splitlines()[0] == "⚠️ Daily AI spend: $12.50 exceeds $10 limit"
    assert message.title == "Daily spend $12.50 exceeds threshold"
    assert message.kind == "failure"


def test_the_end_is_told_where_that_is_wished(town: Town, receiver: Receiver) -> None:
    town.office.change_rule("daily_spend", {"notify": ["firing", "resolved"], "period": "hour"})
    tell(town, receiver)
    town.watch.deliver()
    town.now_ms += 3_600_000
    town.pass_time(12 * MINUTE)
    town.watch.deliver()
    assert [body["event"] for body in receiver.bodies] == ["firing", "resolved"]
    assert receiver.bodies[1]["text"] == "Resolved: Hourly spend $12.50 exceeds threshold"


def test_only_the_channels_that_a_rule_names_are_told(town: Town, receiver: Receiver) -> None:
    town.office.add_channel({"name": "other", "url": receiver.url})
    town.office.add_channel({"name": "off", "url": receiver.url, "enabled": False})
    town.office.add_channel({"name": "mine", "url": receiver.url})
    town.office.change_rule("daily_spend", {"channels": ["mine", "off"]})
    town.spend(12.5)
    town.look()
    town.watch.deliver()
    assert [body["channel"] for body in receiver.bodies] == ["mine"]


def test_a_signature_is_the_one_that_openssl_makes() -> None:
    # printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec_test
    wanted = "v1=38877139021993b830af32feea6e18a8da83eb2f6e49ee50bd9e4cf4ca4d3789"
    assert webhook.sign("whsec_test", "1700000000", b'{"a":1}') == wanted
