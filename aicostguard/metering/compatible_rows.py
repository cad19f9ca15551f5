"""Rows of the hosts that speak OpenAI's formats and nothing else that bills.

A new one is a row here, with the provider's own page on host and usage, and a fixture in
`tests/metering/fixtures_hosts.py`.
"""

from __future__ import annotations

from typing import Tuple

from aicostguard.metering.provider import Provider

COMPATIBLE: Tuple[Provider, ...] = ()
