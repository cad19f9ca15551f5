"""`aicg costs --chart FILE`: the table's answer as a picture, or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from aicostguard import ledger
from tests.ledger.support import aicg, envelope, receipt, take

pytest.importorskip("vl_convert")


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    take(store, envelope([receipt(feature="chat"), receipt(feature="rag")]))
    store.close()
    return path


@pytest.mark.parametrize(("name", "begins"), [("spend.svg", b"<svg"), ("spend.PNG", b"\x89PNG")])
def test_an_answer_is_drawn_beside_its_table(filled: Path, tmp_path: Path, name: str, begins: bytes) -> None:
    target = tmp_path / name
    shown = aicg("costs", "--db", str(filled), "--by", "day,feature", "--chart", str(target))
    assert shown.returncode == 0, shown.stderr
    assert "rag" in shown.stdout and f"Spend by day, feature: {target}" in shown.stderr
    assert target.read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir() if name in path.name] == [name]


def test_what_cannot_be_drawn_or_written_is_said(filled: Path, tmp_path: Path) -> None:
    for given, code, says in (
        (("--chart", "spend.gif"), 2, "must end with .svg or .png"),
        (("--chart", str(tmp_path / "none" / "x.svg")), 1, "cannot be written: No such file or directory"),
        (("--by", "", "--chart", str(tmp_path / "x.svg")), 1, "--by day"),
        (("--since", "2001-01-01", "--until", "2001-01-02", "--chart", str(tmp_path / "x.svg")), 1, "Nothing in this"),
    ):
        shown = aicg("costs", "--db", str(filled), *given)
        assert (shown.returncode, says in shown.stderr) == (code, True), shown.stderr
    assert not (tmp_path / "x.svg").exists()
