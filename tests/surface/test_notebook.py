"""`%%aicg` in a real IPython: a cell's cost, and a cell that otherwise runs as ever."""

from __future__ import annotations

import atexit
import subprocess
import sys
from typing import Any, Iterator

import pytest

from aicostguard import pricing
from aicostguard import receipt as receipts
from aicostguard.capture.state import state
from aicostguard.simulator import Simulator
from aicostguard.testing.spend import dollars

pytest.importorskip("IPython")
pytest.importorskip("openai")

from IPython.core.interactiveshell import InteractiveShell

SETUP = """
import openai
client = openai.OpenAI(api_key="k", base_url=%r)
def ask(model="gpt-4o"):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
"""


class Notebook:
    """A shell, and what it displays."""

    def __init__(self, shell: InteractiveShell, sim: Simulator, capsys: Any) -> None:
        self.shell, self.sim, self.capsys = shell, sim, capsys
        self.html: list[str] = []

    def run(self, cell: str, *, good: bool = True) -> str:
        """Run a cell; what it prints."""
        self.capsys.readouterr()
        assert self.shell.run_cell(cell).success is good
        return "".join(self.capsys.readouterr())


@pytest.fixture
def notebook(sim: Simulator, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.setenv("AICG_HOSTS", sim.hosts_setting())
    InteractiveShell.clear_instance()
    main = sys.modules["__main__"]
    shell = InteractiveShell.instance()
    shell.colors = "nocolor"
    shell.history_manager.enabled = False
    opened = Notebook(shell, sim, capsys)
    opened.run(SETUP % sim.base_url("openai"))
    opened.run("%load_ext aicostguard.notebook")
    yield opened
    opened.run("client.close()")
    opened.run("%unload_ext aicostguard.notebook")
    shell.history_manager.end_session()
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)  # it cannot be done twice
    shell.restore_sys_module_state()  # its `__main__` is not the one of the tests
    sys.modules["__main__"] = main
    InteractiveShell.clear_instance()


def billed(sim: Simulator) -> str:
    """What the provider's own count says the cell's line must be."""
    rows = sim.billed()
    nano = tokens_in = tokens_out = 0
    for row in rows:
        assert row.usage is not None
        made, _ = receipts.build("openai", row.model, row.usage, {})
        nano += pricing.price(made, 1_790_000_000_000).cost_nanousd or 0
        tokens_in += row.usage.input_tokens or 0
        tokens_out += row.usage.output_tokens or 0
    calls = f"{len(rows)} call" + ("s" if len(rows) > 1 else "")
    return f"This cell: {dollars(nano)} · {calls} · {tokens_in:,} tokens in, {tokens_out:,} out · gpt-4o"


def test_a_marked_cell_says_what_it_has_cost_and_gives_its_value(notebook: Notebook) -> None:
    out = notebook.run("%%aicg\nask(); ask()\n6 * 7")
    value, cost = out.splitlines()
    assert value.endswith(": 42")
    assert cost == billed(notebook.sim)
    assert "This cell" not in notebook.run("ask()\n7")


def test_every_cell_that_calls_a_model_says_so_once_it_is_asked_to(notebook: Notebook) -> None:
    notebook.run("%aicg on")
    assert "This cell" not in notebook.run("1 + 1")
    notebook.sim.reset()
    assert notebook.run("answer = ask()").splitlines() == [billed(notebook.sim)]
    assert notebook.run("%%aicg\nanswer = ask()").count("This cell") == 1
    notebook.run("%aicg off")
    assert "This cell" not in notebook.run("answer = ask()")
    assert "This notebook: $" in notebook.run("%aicg")
    assert "3 calls" in notebook.run("%aicg")


def test_a_failing_cell_fails_and_still_says_what_it_has_cost(notebook: Notebook) -> None:
    out = notebook.run("%%aicg\nask()\n1 / 0", good=False)
    assert out.count("ZeroDivisionError: division by zero") == 1
    assert billed(notebook.sim) in out.splitlines()


def test_await_and_other_magics_work_beneath_the_mark(notebook: Notebook) -> None:
    notebook.run("import asyncio")
    assert "no AI call" in notebook.run("%%aicg\nawait asyncio.sleep(0)")
    assert "no AI call" in notebook.run("%%aicg\n%pwd")
    out = notebook.run("%%aicg\n%%time\nask()")
    assert "Wall time" in out
    assert billed(notebook.sim) in out.splitlines()


def test_what_is_not_exact_is_said(notebook: Notebook) -> None:
    assert "This cell: unpriced · 1 call · " in notebook.run("%%aicg\nanswer = ask('model-of-tomorrow')")
    out = notebook.run("%%aicg\nanswer = [ask(), ask('model-of-tomorrow')]")
    assert " and more · 2 calls · " in out
    assert "1 without a price" in out


def test_the_display_is_html_with_text_beside_it(notebook: Notebook) -> None:
    notebook.run("cost = get_ipython().run_line_magic('aicg', '')")
    cost = notebook.shell.user_ns["cost"]
    cost.spend.add({"provider": "x", "model": "<i>", "input_tokens": 1})
    data, _ = notebook.shell.display_formatter.format(cost)
    assert data["text/plain"].startswith("This notebook: ")
    assert "&lt;i&gt;" in data["text/html"]
    assert "<i>" not in data["text/html"]


def test_a_word_it_does_not_know_is_said(notebook: Notebook) -> None:
    out = notebook.run("%aicg onn", good=False)
    assert "%aicg onn: write %aicg on, %aicg off, or %aicg for what the notebook has cost" in out


def test_unloaded_it_is_gone(notebook: Notebook) -> None:
    notebook.run("%load_ext aicostguard.notebook")  # twice is once
    notebook.run("%unload_ext aicostguard.notebook")
    assert state.deliver is None
    assert "not found" in notebook.run("%aicg", good=False)
    notebook.run("%%aicg\n1", good=False)


def test_nobody_else_imports_it() -> None:
    code = (
        "import sys, aicostguard.auto, aicostguard\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('IPython', 'pandas', 'polars')"
        " or name in ('aicostguard.notebook', 'aicostguard.frames', 'aicostguard.tracked', 'aicostguard.ledger')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
