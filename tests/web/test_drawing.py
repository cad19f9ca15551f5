"""Charts without a browser, and the browser's library: made in a process of their own, which may fail."""

from __future__ import annotations

import gzip
import os
import stat
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("vl_convert")

from aicostguard.ledger.web.charts import bars, bundle, draw, spend
from aicostguard.ledger.web.charts.chart import Chart
from tests.ledger.alerting import receiving
from tests.web.rows import answer, row

ROWS = [row({"model": f"model-{n}"}, 10 - n) for n in range(4)]
CHART = bars.breakdown(answer(["model"], ROWS))


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_a_chart_is_a_png_and_an_svg_with_its_title() -> None:
    wide, high = size(draw.draw(CHART, "png", width=500, scale=1))
    assert 500 <= wide <= 560 and high > 100
    svg = draw.draw(CHART, "svg").decode()
    assert svg.startswith("<svg") and "Spend by model" in svg and "$10.00" in svg and "model-3" in svg
    assert "Liberation Sans" in svg


@pytest.mark.parametrize("unit", ["$", ""])
def test_an_axis_says_billions_as_tables_do(unit: str) -> None:
    """The format of the library has the letter of a giga."""
    made = 40 * 10**9
    chart = (
        spend.spend(answer(["day"], [row({"day": "2026-11-01"}, made)]))
        if unit
        else bars.tokens(answer(["model"], [row({"model": "m"}, input_tokens=made)]))
    )
    svg = draw.draw(chart, "svg").decode()
    assert f">{unit}20B<" in svg and "0G<" not in svg


def test_markup_in_names_stays_text() -> None:
    svg = draw.draw(bars.breakdown(answer(["model"], [row({"model": "<script>x</script>"}, 1)])), "svg").decode()
    assert "<script" not in svg and "&lt;script&gt;" in svg


def test_a_dark_one_is_dark() -> None:
    assert draw.draw(CHART, "svg") != draw.draw(CHART, "svg", look="dark")


def test_what_has_nothing_to_draw_says_so() -> None:
    with pytest.raises(draw.NotDrawn, match="Nothing in this period"):
        draw.draw(bars.breakdown(answer(["model"], [])), "png")


def test_what_is_too_large_is_not_begun() -> None:
    huge = Chart("x", "x", {"data": {"values": ["y" * draw.MOST_BYTES]}})
    began = time.monotonic()
    with pytest.raises(draw.NotDrawn, match="ask for a shorter period"):
        draw.draw(huge, "png")
    assert time.monotonic() - began < 5


def test_what_is_no_drawing_fails_alone() -> None:
    with pytest.raises(draw.NotDrawn, match="ended with"):
        draw.draw(Chart("x", "x", {"mark": "nonsense", "data": {"values": []}, "encoding": 3}), "svg")
    assert draw.draw(CHART, "svg")


def test_no_address_is_asked_for_anything() -> None:
    with receiving() as other:
        for form in draw.FORMATS:
            spec = {**(CHART.spec or {}), "data": {"url": f"{other.url}/data.json"}}
            with pytest.raises(draw.NotDrawn):
                draw.draw(Chart("x", "x", spec), form)
        assert other.requests == []


def test_a_drawing_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import os, time\nopen(__file__ + '.pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    monkeypatch.setattr(draw, "_DRAWER", str(slow))
    with pytest.raises(draw.NotDrawn, match="within 3 s"):
        draw.draw(CHART, "png", deadline_s=3)
    pid = int(Path(str(slow) + ".pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_who_stops_the_ledger_ends_what_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(draw, "_DRAWER", str(slow))
    cuts: draw.Cuts = set()
    said: list[str] = []

    def make() -> None:
        try:
            draw.draw(CHART, "png", cuts=cuts)
        except draw.NotDrawn as error:
            said.append(str(error))

    thread = threading.Thread(target=make)
    thread.start()
    while not cuts and thread.is_alive():
        time.sleep(0.01)
    for cut in list(cuts):
        cut()
    thread.join(60)
    assert said == ["the process that draws ended with -9"] and not cuts


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(draw.NotDrawn, match="pip install 'aicostguard\\[dashboard\\]'"):
        draw.draw(CHART, "png")
    assert bundle.Bundle(None).name == ""


def test_ten_thousand_rows_are_drawn() -> None:
    rows = [
        row({"hour": f"2026-11-{day:02}T{hour:02}:00:00+00:00", "model": f"m{n}"}, n + 0.5)
        for day in range(1, 29)
        for hour in range(24)
        for n in range(15)
    ]
    assert len(rows) > 10_000
    assert size(draw.draw(spend.spend(answer(["hour", "model"], rows)), "png"))[0] > 1000


def test_the_library_is_made_once_and_kept_where_only_its_user_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cache"
    first = bundle.Bundle(place)
    packed = first.packed()
    assert len(packed) < 450_000, "the first screen may carry 1.5 MB in all"
    script = gzip.decompress(packed).decode()
    assert "expressionInterpreter" in script and "as embed" in script and "themes" in script
    file = place / (first.name + ".gz")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700 and stat.S_IMODE(file.stat().st_mode) == 0o600

    def never(*_: object) -> bytes:
        raise AssertionError("it is made again")

    monkeypatch.setattr(draw, "drawn", never)
    assert bundle.Bundle(place).packed() == packed
    # What another could have written, or is cut off, is not served.
    file.chmod(0o666)
    with pytest.raises(AssertionError, match="made again"):
        bundle.Bundle(place).packed()
    file.chmod(0o600)
    file.write_bytes(packed[:1000])
    with pytest.raises(AssertionError, match="made again"):
        bundle.Bundle(place).packed()


def test_a_place_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(draw, "drawn", lambda *_: gzip.compress(b"made"))
    assert bundle.Bundle(tmp_path / "file" / "cache").plain() == b"made"


def test_old_libraries_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "vega-0000.js.gz"
    old.write_bytes(b"")
    monkeypatch.setattr(draw, "drawn", lambda *_: gzip.compress(b"made"))
    made = bundle.Bundle(tmp_path)
    made.packed()
    assert not old.exists() and (tmp_path / (made.name + ".gz")).exists()
