"""Every surface beside sums made by hand: kinds of calls that are not text, archived receipts, several projects.

What each call costs is worked out here, from the rates that the provider's page states, and from nothing of `pricing`.
"""

from __future__ import annotations

import csv
import io
import json
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, Mapping

import pytest

pytest.importorskip("pyarrow")

from aicostguard import ledger, pricing
from aicostguard.cli import main
from aicostguard.ledger import comparing, deliveries, views
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.keeping import books, restoring, retention
from aicostguard.ledger.keeping.books import ARCHIVE, Rule
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, NOW, Server, costs, envelope, epoch, receipt, serving, take
from tests.ledger.test_access import key_of, project_of

OLD = 100 * DAY_MS
_MILLION = Decimal(10) ** 6


def _call(model: str, provider: str = "openai", **more: Any) -> dict[str, Any]:
    return {"provider": provider, "model": model, **more}


#: a receipt, and dollars as somebody with a pocket calculator has them: units by rate
KINDS: tuple[tuple[dict[str, Any], Decimal | None], ...] = (
    (
        _call(
            "gpt-image-1", operation="image", input_tokens=1300, input_image_tokens=1000, output_tokens=4160, images=1
        ),
        (300 * Decimal(5) + 1000 * Decimal(10) + 4160 * Decimal(40)) / _MILLION,
    ),
    (_call("whisper-1", operation="audio", audio_ms=61_001), 61_001 * Decimal("0.36") / 3_600_000),
    (_call("whisper-large-v3", "groq", operation="audio", audio_ms=7), 10_000 * Decimal("0.111") / 3_600_000),
    (_call("tts-1", operation="audio", characters=1_001), 1_001 * Decimal(15) / _MILLION),
    (
        _call(
            "gpt-realtime",
            operation="realtime",
            input_tokens=1000,
            input_audio_tokens=700,
            cache_read_input_tokens=400,
            cache_read_audio_tokens=300,
            output_tokens=500,
            output_audio_tokens=450,
        ),
        # text 200 new and 100 cached; audio 400 new and 300 cached; 50 of text out, 450 of audio
        (
            200 * Decimal(4)
            + 100 * Decimal("0.4")
            + 400 * Decimal(32)
            + 300 * Decimal("0.4")
            + 50 * Decimal(16)
            + 450 * Decimal(64)
        )
        / _MILLION,
    ),
    (_call("sora-2", operation="image", video_ms=8_000), None),
    (_call("text-embedding-3-small", operation="embeddings", input_tokens=1), Decimal("0.02") / _MILLION),
    (_call("rerank-v3.5", "cohere", operation="rerank", search_units=3), 3 * Decimal(2) / 1000),
    (
        _call("gpt-4o", input_tokens=10, output_tokens=5, web_searches=2, tool_calls_billed=1),
        (10 * Decimal("2.5") + 5 * Decimal(10)) / _MILLION + 2 * Decimal(10) / 1000 + Decimal("2.5") / 1000,
    ),
    (
        _call(
            "claude-sonnet-4-5",
            "anthropic",
            input_tokens=2000,
            cache_read_input_tokens=900,
            cache_creation_input_tokens=600,
            cache_creation_1h_input_tokens=200,
            output_tokens=7,
        ),
        (500 * Decimal(3) + 900 * Decimal("0.3") + 400 * Decimal("3.75") + 200 * Decimal(6) + 7 * Decimal(15))
        / _MILLION,
    ),
    (
        _call("gpt-4o-mini", operation="batch", input_tokens=999, output_tokens=333),
        (999 * Decimal("0.075") + 333 * Decimal("0.3")) / _MILLION,
    ),
    (_call("gpt-4o", usage_missing=True), None),
)


def _nano(usd: Decimal | None) -> int:
    return 0 if usd is None else int((usd * 10**9).quantize(Decimal(1), ROUND_HALF_EVEN))


def _by(name: str) -> dict[str, tuple[int, int, int]]:
    """value → (nano-dollars, calls, calls without a price)."""
    out: dict[str, tuple[int, int, int]] = {}
    for one, usd in KINDS:
        cost, calls, unpriced = out.get(one.get(name, ""), (0, 0, 0))
        out[one.get(name, "")] = (cost + _nano(usd), calls + 1, unpriced + (usd is None))
    return out


def test_kinds_that_are_no_text_cost_what_a_calculator_says_on_every_surface(
    store: SqliteStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(store, envelope([one for one, _ in KINDS]), price=pricing.price)
    with serving(store) as server:
        whole = sum(_nano(usd) for _, usd in KINDS)
        for name in ("operation", "model", "provider"):
            answer = server.get(f"/v1/costs?since=24h&group_by={name}").body
            told = {
                row[name] or "": (row["cost_nanousd"] or 0, row["calls"], row["unpriced_calls"])
                for row in answer["rows"]
            }
            assert told == _by(name)
            assert answer["totals"]["cost_nanousd"] == whole
        totals = answer["totals"]
        for unit in ("audio_ms", "characters", "images", "video_ms", "search_units", "web_searches"):
            assert totals[unit] == sum(one.get(unit, 0) for one, _ in KINDS), unit
        focus = server.get("/v1/focus?since=24h").body
        assert sum(int(Decimal(row["BilledCost"]) * 10**9) for row in focus["rows"]) == whole
        assert sum(row["x_UnpricedCalls"] for row in focus["rows"]) == 2
        spent = server.get("/v1/metrics").raw.decode()
        assert f'aicg_today_cost_dollars{{organisation="default",project="default"}} {whole / 1e9}' in spent
        (line,) = csv.DictReader(io.StringIO(server.get("/v1/costs?since=24h&format=csv").raw.decode()))
        assert (int(line["cost_nanousd"]), int(line["calls"])) == (whole, len(KINDS)), "without groups: the totals"
    assert main(["top", "--json", "--by", "operation", "--db", store.path]) == 0
    top = json.loads(capsys.readouterr().out)
    assert {row["name"] or "": row["today"]["calls"] for row in top["by"]["operation"]} == {
        name: calls for name, (_, calls, _) in _by("operation").items()
    }


def test_nothing_in_the_last_minutes_is_said_as_nothing(store: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    take(store, envelope([receipt()], ago_ms=2 * 3_600_000))
    assert main(["top", "--once", "--minutes", "5", "--db", store.path]) == 0
    assert "| $0.00/min |" in capsys.readouterr().out


# Archived receipts: each answer is as before, or says what it lacks.


@pytest.fixture
def kept(store: SqliteStore) -> SqliteStore:
    """Twenty old receipts and four of today, with a latency, a user, a score each, and what their provider said."""
    for name, number, ago in (("OLD", 20, OLD), ("NEW", 4, 0)):
        some = [
            receipt(
                feature=f"f{n % 2}",
                user=f"u{n % 3}",
                team="red",
                request=f"{name}{n}",
                latency_ms=1000 if ago else 10,
                reported_cost_nanousd=7,
                **({"model": "unheard-of"} if n % 4 == 1 else {}),
            )
            for n in range(number)
        ]
        take(store, envelope(some, name=f"01{name}{0:021d}", ago_ms=ago))
    return store


def _score(server: Server) -> None:
    some = [{"name": "accuracy", "value": float(name == "OLD"), "request": f"{name}{n}"}
            for name, number in (("OLD", 20), ("NEW", 4)) for n in range(number)]  # fmt: skip
    assert server.ask("POST", "/v1/scores", json.dumps({"scores": some}).encode()).status == 200


def _archive(store: SqliteStore) -> None:
    retention.set_rule(store, None, Rule(90, ARCHIVE), NOW, Actor("test"))
    assert retention.run(store, NOW)


def _restore(store: SqliteStore) -> None:
    retention.set_rule(store, None, None, NOW, Actor("test"))
    assert restoring.restore(store, store.look(books.archives), NOW) == 20


def _lines(server: Server, path: str) -> tuple[list[dict[str, str]], Mapping[str, str]]:
    reply = server.get(path)
    return list(csv.DictReader(io.StringIO(reply.raw.decode()))), reply.headers


def test_percentiles_that_only_receipts_tell_say_which_are_archived(kept: SqliteStore) -> None:
    asked = {"group_by": "team", "latency": "1"}
    whole = costs(kept, **asked)
    assert (whole["archived"], whole["totals"]["latency_p50_ms"]) == (None, pytest.approx(1000, rel=0.01))
    _archive(kept)
    told = costs(kept, **asked)
    assert told["totals"]["calls"] == 24 and told["totals"]["latency_p50_ms"] == pytest.approx(10, rel=0.01)
    assert told["archived"]["receipts"] == 20
    # Of these there are histograms, which stay; and without percentiles nothing is lacking.
    assert costs(kept, group_by="model", latency="1")["archived"] is None
    assert costs(kept, group_by="team")["archived"] is None


def test_means_of_scores_say_that_they_are_made_of_fewer(kept: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    project, asked = kept.default_project(), {"since": ["all"]}
    with serving(kept) as server:
        _score(server)
        whole = comparing.compare(kept, asked, project, NOW)
        assert whole["quality_archived"] is None
        assert whole["models"][0]["quality"]["accuracy"]["scores"] == 18
        _archive(kept)
        told = comparing.compare(kept, asked, project, NOW)
        assert told["models"][0]["quality"]["accuracy"]["scores"] == 3
        assert (told["archived"], told["quality_archived"]["receipts"]) == (None, 20)
        assert "Quality is made of fewer scores: 20 receipts" in server.get("/models?since=all").raw.decode()
        assert "fewer scores: 20 receipts" in server.get("/parts/quality?since=all").raw.decode()
        with pytest.raises(Refused, match="20 receipts"):
            views.look("compare_models", {"days": ["130"]}, views.Asker(kept, project, NOW))
    assert main(["compare", "--since", "all", "--db", kept.path]) == 0
    assert "! Quality is made of fewer scores: 20 calls" in capsys.readouterr().out
    # A score that no one gave lacks nothing.
    assert comparing.compare(kept, {**asked, "score": ["taste"]}, project, NOW)["quality_archived"] is None


def test_costs_of_an_organisation_say_what_is_archived_and_compare(kept: SqliteStore) -> None:
    project_of(kept, "second")
    with serving(kept) as server:
        wide = key_of(kept, "read", "organisation")
        path = "/v1/organisation/costs?since=all&feature=f1&user=u1"
        assert (whole := server.get(path, key=wide).body)["archived"] is None
        _archive(kept)
        told = server.get(path, key=wide).body
        assert told["totals"]["calls"] < whole["totals"]["calls"]
        assert told["archived"]["receipts"] == 20
        assert server.get("/v1/organisation/costs?since=all", key=wide).body["archived"] is None, "sums stay"
        totals = server.get("/v1/organisation/costs?since=today&compare=previous", key=wide).body["totals"]
        assert (totals["before"]["calls"], totals["change_nanousd"]) == (0, totals["cost_nanousd"])


def test_what_providers_said_and_repricing_say_what_is_archived(
    kept: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main([*arguments, "--db", kept.path]) == 0
        return capsys.readouterr().out

    reported = ("price", "reported", "--since", "all")
    whole = json.loads(said(*reported, "--json"))
    apart = {row["model"]: row["reported_unpriced_nanousd"] for row in whole["rows"]}
    assert (whole["archived"], apart) == (None, {"gpt-4o": 0, "unheard-of": 6 * 7})
    assert "6 calls without a price of ours are in no column; of them was reported: $0.000000042" in said(*reported)
    assert json.loads(said("reprice", "--json"))["archived"] is None
    _archive(kept)
    told = json.loads(said(*reported, "--json"))
    assert (sum(row["calls"] for row in told["rows"]), told["archived"]["receipts"]) == (4, 20)
    assert "up to 20 calls" in said(*reported)
    assert json.loads(said("reprice", "--all", "--json"))["archived"]["receipts"] == 20
    assert "! 20 receipts of " in said("reprice") and "not looked at, they keep their cost" in said("reprice")
    _restore(kept)
    assert json.loads(said(*reported, "--json")) == whole


def test_csv_says_what_is_archived(kept: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    path = "/v1/costs?since=all&group_by=feature,user&format=csv"
    with serving(kept) as server:
        whole, headers = _lines(server, path)
        assert sum(int(line["calls"]) for line in whole) == 24
        assert "aicg-archived" not in headers and "archived_receipts" not in whole[0]
        _archive(kept)
        by_feature, headers = _lines(server, "/v1/costs?since=all&group_by=feature&tags.n!=1&format=csv")
        assert {line["archived_receipts"] for line in by_feature} == {"20"}
        assert headers["aicg-archived"].startswith("receipts=20; days=1; first_day=")
        told, headers = _lines(server, "/v1/costs?since=all&feature=f0&user=u0&format=csv")
        assert (told[0]["calls"], told[0]["archived_receipts"]) == ("1", "20")
        by_session, _ = _lines(server, "/v1/costs?since=all&group_by=session&format=csv")
        assert (by_session[-1]["session"], by_session[-1]["calls"]) == ("(archived)", "20")
        _, headers = _lines(server, "/v1/receipts?since=all&format=csv")
        assert headers["aicg-archived"].startswith("receipts=20")
    assert main(["costs", "--since", "all", "--by", "feature,user", "--csv", "--db", kept.path]) == 0
    printed = capsys.readouterr()
    assert "! Incomplete: up to 20 calls" in printed.err and "Incomplete" not in printed.out


def test_receipts_as_csv_have_the_same_columns_on_each_page_and_say_where_the_next_begins(
    server: Server, store: SqliteStore
) -> None:
    sent = [one for one, _ in KINDS]
    take(store, envelope(sent), price=pricing.price)
    path, found, headings = "/v1/receipts?since=24h&limit=5&format=csv", [], set()
    cursor: str | None = ""
    while cursor is not None:
        lines, headers = _lines(server, path + (f"&cursor={cursor}" if cursor else ""))
        found += [line["model"] for line in lines]
        headings.add(tuple(lines[0]))
        cursor = headers.get("aicg-cursor")
    assert sorted(found) == sorted(one["model"] for one in sent)
    assert len(headings) == 1


# Several projects in one file.


def test_a_file_of_several_projects_says_whose_figures_these_are(
    store: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    take(store, envelope([receipt()] * 2, name=epoch()))
    own = ["costs", "--json", "--db", store.path]
    assert main(own) == 0 and capsys.readouterr().err == "", "there is no other"
    other = project_of(store, "shop", "acme")
    with serving(store) as server:
        key = key_of(store, "admin", "ledger", other)
        assert server.post(envelope([receipt()] * 3, name=epoch()), key=key).status == 200
        for verb in ("costs", "models", "compare", "agents", "focus", "deliveries", "top"):
            assert main([verb, "--json", "--db", store.path]) == 0
            printed = capsys.readouterr()
            assert printed.err == (
                "! This is project default/default alone; not in it: acme/shop. --project NAME asks another.\n"
            ), verb
        for place in (["--db", store.path], ["--url", f"http://127.0.0.1:{server.port}", "--key", key]):
            for name, calls in (("acme/shop", 3), ("default/default", 2)):
                assert main(["costs", "--json", "--project", name, *place]) == 0
                printed = capsys.readouterr()
                assert (json.loads(printed.out)["totals"]["calls"], printed.err) == (calls, ""), (name, place)
    assert main(["costs", "--db", store.path, "--project", "nobody"]) != 0
    assert "there is no project 'nobody'" in capsys.readouterr().err
    assert main(["budgets", "--db", store.path, "--project", "shop", "--organisation", "acme"]) == 2
    capsys.readouterr()


def test_repricing_reaches_every_project(store: SqliteStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.default_project()
    other = project_of(store, "shop", "acme")
    key = key_of(store, "admin", "ledger", other)
    with serving(store) as server:
        assert server.post(envelope([receipt(model="unheard-of")] * 3, name=epoch()), key=key).status == 200
    Path(store.path).with_name("prices.json").write_text(
        json.dumps({"version": 1, "prices": [{"model": "unheard-of", "input_per_million": 1, "output_per_million": 1}]})
    )
    at = ["--json", "--db", store.path]
    assert main(["reprice", "--apply", *at]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 0
    assert main(["reprice", "--apply", "--project", "acme/shop", *at]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["changed"], done["after_nanousd"]) == (3, 3 * 110_000)


@pytest.mark.parametrize("name", ["acme/search", "3"])
def test_a_project_is_named_with_its_organisation_wherever_it_is_named(store: SqliteStore, name: str) -> None:
    store.default_project()
    project_of(store, "search")
    number = project_of(store, "search", "acme")
    assert store.look(lambda connection: books.project(connection, name)) == number
    with pytest.raises(Refused, match="names several projects; give ORGANISATION/NAME"):
        store.look(lambda connection: books.project(connection, "search"))


# Processes without end.


def test_an_answer_about_deliveries_is_made_of_so_many_processes_and_says_where_the_others_are(
    server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(7):
        body = envelope([receipt()], first=0, name=epoch(), host=f"h{n % 2}", counters={"generated": 1 + n})
        take(store, body, received_ms=NOW - 1000 * n)
    whole = server.get("/v1/deliveries?group_by=process").body
    assert (whole["totals"]["processes"], whole["cursor"]) == (7, None)
    monkeypatch.setattr(deliveries, "MOST_PROCESSES", 3)
    seen, sizes, path = [], [], "/v1/deliveries?group_by=process"
    cursor: str | None = ""
    while cursor is not None:
        answer = server.get(path + (f"&cursor={cursor}" if cursor else "")).body
        seen += [row["process"] for row in answer["rows"]]
        sizes.append(answer["totals"]["processes"])
        cursor = answer["cursor"]
    assert sizes == [3, 3, 1] and sorted(seen) == sorted(row["process"] for row in whole["rows"])
    # Filters choose among all processes, not among those of the first answer.
    chosen = server.get("/v1/deliveries?group_by=process&host=h1").body
    assert (chosen["totals"]["processes"], chosen["cursor"]) == (3, None)
    assert server.get("/v1/deliveries?cursor=nonsense").body["field"] == "cursor"
    asked = deliveries.parse({}, store.default_project(), ledger.now_ms())
    every = list(deliveries.every(store, asked, ledger.now_ms()))
    assert sum(one["totals"]["expected"] for one in every) == whole["totals"]["expected"] == 28
    main(["deliveries", "--db", store.path])
    assert "! Only the 3 processes heard last are in this" in (said := capsys.readouterr().out)
    assert "Everything that is known" not in said
    page = server.get("/delivery", key=KEY).raw.decode()
    assert "These are the 3 processes that were heard last" in page
