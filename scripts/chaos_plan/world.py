"""Everything that is not a client: the folder, the small devices, simulators, the proxy, the ledger.

Owns starting and ending them, and that nothing stays behind. All processes of a run carry its mark in their
environment, so that also a grandchild that nobody knows is found. If it leaks, the machine fills up run by run.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from chaos_plan import guardian
from chaos_plan.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
#: bytes of the small device of spools, and of the ledger's: so much and more per minute
SMALL, LEDGER, LEDGER_A_MINUTE = 2 << 20, 24 << 20, 8 << 20
_SUBREAPER = 36
#: asks this machine, whatever proxy the environment names
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class World:
    """The stage. A context manager: leaving it ends every process and mount of the run."""

    def __init__(self, plan: Plan, parent: Optional[Path]) -> None:
        self.plan = plan
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-%d-" % plan.seed, dir=parent)).resolve()
        self.mark = self.folder.name
        self.root = os.geteuid() == 0 and shutil.which("mount") is not None
        for name in ("calls", "state", "logs", "ledger", "small"):
            (self.folder / name).mkdir()
        self.stop_file = self.folder / "stop"
        self.simulators: List[str] = []
        self.urls: Dict[str, str] = {}
        self.hosts = ""
        self.start = 0.0
        self._guard: Optional[subprocess.Popen[bytes]] = None
        self.ledger: Ledger
        self.proxy: subprocess.Popen[bytes]

    def __enter__(self) -> World:
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)  # orphans come to us, not to the machine's first process
        command = [sys.executable, "-m", "chaos_plan.guardian", self.mark, str(self.folder)]
        env = {**self.environment(), guardian.MARK: ""}
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, env=env, start_new_session=True)
        try:
            self._mount()
            self._simulate()
            self.ledger = Ledger(self)
            self.ledger.begin(60)
            self.start = time.monotonic() + 0.5
            self._between()
        except BaseException:
            self.close(keep=True)
            raise
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self.close(keep=kind is not None)

    def close(self, keep: bool = False) -> List[str]:
        """End everything. Gives what would not go; with `keep`, what small devices hold is copied to the folder."""
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # impatience must not leave half of it behind
        try:
            return self._close(keep)
        finally:
            signal.signal(signal.SIGINT, handler)

    def _close(self, keep: bool) -> List[str]:
        left = ["process %d" % pid for pid in guardian.kill_marked(self.mark)]
        for name in ("ledger", "small") if keep else ():
            if os.path.ismount(self.folder / name):
                shutil.copytree(self.folder / name, self.folder / (name + "-kept"), dirs_exist_ok=True)
        left += guardian.unmount_all(self.folder)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait(30)
            self._guard = None
        return left

    def environment(self) -> Dict[str, str]:
        """For every process of the run: none of our settings, and the mark."""
        drop = ("VIRTUAL_ENV", "PYTHONHOME")
        env = {name: value for name, value in os.environ.items() if not name.startswith("AICG_") and name not in drop}
        env.update(PYTHONPATH="%s:%s" % (ROOT, ROOT / "scripts"), PYTHONDONTWRITEBYTECODE="1")
        env.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
        env[guardian.MARK] = self.mark
        return env

    def spawn(self, name: str, command: Sequence[str], env: Optional[Dict[str, str]] = None, **more: Any) -> Any:
        """A process in a group of its own, its words in `logs/NAME.log`."""
        with (self.folder / "logs" / (name + ".log")).open("ab") as log:
            return subprocess.Popen(
                list(command),
                env=env or self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=more.get("stdout", log),
                stderr=log,
                start_new_session=True,
            )

    def _mount(self) -> None:
        sizes = {"small": SMALL, "ledger": LEDGER + int(LEDGER_A_MINUTE * self.plan.seconds / 60)}
        for name, size in sizes.items():
            if not self.root:
                break
            command = ["mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", str(self.folder / name)]
            self.root = subprocess.run(command, capture_output=True).returncode == 0

    def device(self, name: str) -> Optional[Path]:
        """The small device of that name; None where nothing can be mounted."""
        return self.folder / name if os.path.ismount(self.folder / name) else None

    def _simulate(self) -> None:
        shared: Dict[str, str] = {}
        hosts: List[str] = []
        for name in ("openai", "anthropic"):
            command = [sys.executable, "-m", "aicostguard.simulator", "--providers", name]
            process = self.spawn("simulator-" + name, command, stdout=subprocess.PIPE)
            told = json.loads(process.stdout.readline())
            shared.update(told["urls"])
            hosts.append(told["AICG_HOSTS"])
            self.simulators.append(next(iter(told["urls"].values())))
        self.urls, self.hosts = shared, ",".join(hosts)

    def billed(self) -> Tuple[List[Dict[str, Any]], int]:
        """`(every billed response, how many no longer fitted)`, of all simulators."""
        rows: List[Dict[str, Any]] = []
        lost = 0
        for url in self.simulators:
            with DIRECT.open(url + "/__sim/billed", timeout=60) as answer:
                told = json.load(answer)
            rows += told["billed"]
            lost += told["lost"]
        return rows, lost

    def _between(self) -> None:
        plan_file = self.folder / "plan.json"
        plan_file.write_text(json.dumps(self.plan.as_dict(), indent=1))
        self.proxy_out = self.folder / "proxy.json"
        command = [sys.executable, "-m", "chaos_plan.proxy", "--plan", str(plan_file), "--out", str(self.proxy_out)]
        command += ["--ledger", str(self.ledger.port), "--start", "%.3f" % self.start]
        self.proxy = self.spawn("proxy", command, stdout=subprocess.PIPE)
        assert self.proxy.stdout is not None
        self.proxy_port = int(self.proxy.stdout.readline())

    def end_proxy(self) -> Dict[str, Any]:
        """Late copies go out; gives what the proxy did."""
        self.proxy.send_signal(signal.SIGTERM)
        self.proxy.wait(60)
        return dict(json.loads(self.proxy_out.read_text()))


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ledger:
    """`aicg serve`, killed and started again on the same file and port."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.port = free_port()
        self.file = world.folder / "ledger" / "ledger.db"
        self.key = ""
        self.process: Optional[subprocess.Popen[bytes]] = None
        #: monotonic seconds until which it has to stay away
        self.away_until = 0.0
        #: exit codes of those that ended without being told to
        self.ended: List[int] = []
        #: how often it found no room to start with
        self.no_room = 0
        self._told = False

    @property
    def url(self) -> str:
        """Its own address."""
        return "http://127.0.0.1:%d" % self.port

    def begin(self, patience: float = 0.0) -> None:
        """Start it; with `patience`, wait until it answers. Raises SystemExit with what it said when it does not."""
        key_file = self._world.folder / "ledger.key"
        command = [sys.executable, "-m", "aicostguard.cli", "serve", "--port", str(self.port), "--db", str(self.file)]
        self._told = False
        self.process = self._world.spawn("ledger", [*command, "--key-file", str(key_file)])
        self.wait(patience, key_file)

    def begin_again(self, patience: float) -> None:
        """Whatever state it is in: up, and answering."""
        self.signal(signal.SIGCONT)
        self.away_until = 0.0
        self.tend()
        self.wait(patience, self._world.folder / "ledger.key")

    def wait(self, patience: float, key_file: Path) -> None:
        """Until it answers."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            try:
                with DIRECT.open(self.url + "/v1/health", timeout=5):
                    self.key = key_file.read_text().strip()
                    return
            except OSError:
                time.sleep(0.1)
            self.tend()
        if patience:
            raise SystemExit("the ledger does not answer; see %s" % (self._world.folder / "logs" / "ledger.log"))

    def tend(self) -> None:
        """Start it again when it is away and may be back."""
        if self.process is not None and self.process.poll() is not None:
            if not self._told:
                self.away_until = time.monotonic() + 0.5
                if self.process.returncode == 1 and self._finds_no_room():
                    self.no_room += 1  # as it should: it says so and leaves the file alone
                else:
                    self.ended.append(self.process.returncode)
            self.process = None
        if self.process is None and time.monotonic() >= self.away_until:
            self.begin()

    def _finds_no_room(self) -> bool:
        """Now, or by its last word: when this is looked at, there may be room again."""
        if (self.file.parent / "filler").exists():
            return True
        said = (self._world.folder / "logs" / "ledger.log").read_text(errors="replace").rstrip()
        last = said.rpartition("\n")[2]
        return last.startswith("aicg serve: ") and "Make room on the device" in last

    def signal(self, number: int, seconds: float = 0.0) -> None:
        """Send it a signal; after one that ends it, it stays away for `seconds`."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._told = True
            self.away_until = time.monotonic() + seconds

    def end(self) -> Optional[int]:
        """Stop it in good order; its exit code."""
        if self.process is None:
            return None
        self.signal(signal.SIGTERM, 1e9)
        return self.process.wait(30)

    def ask(self, path: str) -> Dict[str, Any]:
        """`GET /v1/PATH`."""
        request = urllib.request.Request(self.url + "/v1/" + path, headers={"Authorization": "Bearer " + self.key})
        with DIRECT.open(request, timeout=30) as answer:
            return dict(json.load(answer))
