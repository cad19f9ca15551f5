"""Our own requests, in a program whose every HTTP library is hooked, and whose ledger is said to be an AI host."""

from __future__ import annotations

import pytest

from tests.delivery.fake_ledger import FakeLedger
from tests.delivery.hosts.place import Place

PROGRAM = """
import sys, os
from urllib.parse import urlsplit
# The ledger's host and path are made to look like a provider's: whatever were metered would be counted.
os.environ["AICG_HOSTS"] += "," + urlsplit(os.environ["AICG_URL"]).netloc + "=openai"
import app, http.client, aicostguard
for name in ("httpx", "requests", "urllib3", "aiohttp"):
    try: __import__(name)
    except ImportError: pass
# Other agents replace these; ours goes through none of them.
def stranger(*_, **__): raise AssertionError("our traffic went through somebody's hook")
before = http.client.HTTPConnection.request
app.ask()
for name in ("request", "putrequest", "getresponse", "connect", "send", "endheaders"):
    setattr(http.client.HTTPConnection, name, stranger)
import socket
socket.create_connection = stranger
assert aicostguard.flush(5)
if sys.argv[1] == "awaited":
    import asyncio
    from aicostguard import auto
    asyncio.run(auto._adeliver([{"provider": "openai", "model": "gpt-4o"}]))
shown = aicostguard.stats()
counters = shown["counters"]
print(counters["generated"], counters["sent"], counters["unmetered"], counters["unrecognised"], shown["faults"])
"""


@pytest.mark.ids("E6")
@pytest.mark.parametrize("mode", ["background", "inline", "awaited"])
def test_none_of_our_requests_is_counted_or_seen_by_other_agents(place: Place, ledger: FakeLedger, mode: str) -> None:
    inline = "background" if mode == "background" else "inline"
    shown = place.run(PROGRAM, mode, AICG_MODE=inline, AICG_WATCHDOG="1")
    calls = 2 if mode == "awaited" else 1
    assert shown.strip() == "%d %d 0 0 {}" % (calls, calls)
    assert len(ledger.stored) == calls and ledger.duplicates == 0
