"""Descriptors of ours sit high, are nobody else's, and are closed by nobody but us."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from aicostguard.delivery import files, seats, sockets
from aicostguard.health import health

pytest.importorskip("fcntl")
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


@pytest.fixture
def opened(tmp_path: Path) -> int:
    return seats.opened(str(tmp_path / "file"), NEW)


def test_a_file_is_high_private_and_not_inherited(tmp_path: Path, opened: int) -> None:
    assert opened >= seats.floor() and not os.get_inheritable(opened)
    assert os.fstat(opened).st_mode & 0o777 == 0o600
    assert seats.identity(opened) == seats._at(str(tmp_path / "file"))
    low = os.open(os.devnull, os.O_RDONLY)  # what anybody opens is not up there
    os.close(low)
    assert low < seats.floor()
    seats.close(opened, seats.identity(opened))
    assert seats.identity(opened) is None


def test_where_there_is_no_high_number_a_low_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "floor", lambda: 1 << 30)  # beyond any limit
    number = seats.opened(str(tmp_path / "file"), NEW)
    assert number < seats.FLOOR
    os.write(number, b"x")
    seats.close(number, seats.identity(number))
    assert (tmp_path / "file").read_bytes() == b"x"
    one = sockets._seated(socket.socket())
    assert one.fileno() < seats.FLOOR
    one.close()


def test_the_limit_of_open_files_moves_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, floor in ((-1, 768), (1 << 20, 768), (1024, 768), (256, 192)):
        monkeypatch.setattr(os, "sysconf", lambda name, limit=limit: limit)
        assert seats.floor() == floor


def test_a_number_that_is_anothers_by_now_is_left_alone(tmp_path: Path, opened: int) -> None:
    known = seats.identity(opened)
    with open(tmp_path / "host", "w+b", buffering=0) as host:
        os.dup2(host.fileno(), opened)
        seats.close(opened, known)
        with pytest.raises(seats.Taken):
            files.write_all(opened, known, b"ours")
        assert os.fstat(opened).st_size == 0
        os.close(opened)


def test_what_was_opened_and_is_another_file_by_now_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its low number changed hands before it was copied: the copy goes, and the other file stays open."""
    before = health.notes.get("descriptor_closed", 0)
    with open(tmp_path / "host", "w+b", buffering=0) as host:
        (tmp_path / "ours").touch()
        monkeypatch.setattr(os, "open", lambda *_: host.fileno())
        with pytest.raises(seats.Taken):
            seats.opened(str(tmp_path / "ours"), os.O_RDWR)
        host.write(b"still open")
    assert health.notes["descriptor_closed"] == before + 1


def test_a_link_that_somebody_laid_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    os.symlink(tmp_path / "target", tmp_path / "link")
    with pytest.raises(OSError) as met:
        seats.opened(str(tmp_path / "link"), os.O_RDWR)
    assert met.value.errno == errno.ELOOP


def test_a_socket_that_leads_somewhere_is_not_the_one_just_made() -> None:
    near, far = socket.socketpair()
    with near, far, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        for strange in (near, listening):
            made = socket.socket()
            os.dup2(strange.fileno(), made.fileno())
            number = made.fileno()
            with pytest.raises(seats.Taken):
                sockets._seated(made)
            assert seats.identity(number) == seats.identity(strange.fileno())
            os.close(number)


def test_making_room_leaves_nothing_open() -> None:
    before = [seats.identity(number) for number in range(1100)]
    seats.make_room()
    assert [seats.identity(number) for number in range(1100)] == before
