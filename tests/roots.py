"""One root of trust instead of 140, for tests whose clients speak to loopback.

Every client of an SDK makes a context of its own, and reading all the roots into it takes 35 ms of processor time: more
than most tests need for everything else. Tests of TLS name their own roots.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

#: where clients look before they read the roots that come with them
NAME = "SSL_CERT_FILE"
_END = "-----END CERTIFICATE-----\n"


@pytest.fixture(scope="session")
def one_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import certifi

    file = tmp_path_factory.mktemp("roots") / "one.pem"
    file.write_text(Path(certifi.where()).read_text(encoding="utf-8").split(_END, 1)[0] + _END, encoding="utf-8")
    return file


@pytest.fixture(scope="module", autouse=True)
def few_roots(one_root: Path) -> Iterator[None]:
    """For each module of a folder whose conftest imports this."""
    before = os.environ.get(NAME)
    os.environ[NAME] = str(one_root)
    yield
    if before is None:
        del os.environ[NAME]
    else:
        os.environ[NAME] = before
