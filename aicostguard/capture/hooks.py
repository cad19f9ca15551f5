"""Which libraries are hooked, and when: as soon as they are imported, in any order.

Owns the table of hooks and the finder that waits on `sys.meta_path`. A library that is there already is hooked at
once; another when its import has finished. The finder changes nothing about the import itself: the module's loader,
spec and exceptions are what they were, and a fault of ours never breaks it. One that is imported anew (reloaded, or
taken out of `sys.modules` as test suites and plug-in hosts do) has new classes, and is hooked again.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

from aicostguard.capture import caller, patch
from aicostguard.capture.patch import Hook
from aicostguard.capture.state import state
from aicostguard.health import health

Version = Tuple[int, ...]


class Instrument(NamedTuple):
    """One library that is hooked.

    `module` is the module whose import triggers the hook, `installer` the module of ours with `install(module, hook)`.
    `tested` is the range of versions our tests run: from the first one, up to but without the second.
    `version` names the attribute that holds the version, `distribution` the package's name ("" for a part of Python).
    `ready` is False where importing the library does not mean that there will be something to meter.
    """

    label: str
    module: str
    installer: str
    distribution: str
    tested: Tuple[Version, Version]
    version: str
    ready: bool = True


_TRANSPORTS = "aicostguard.capture.transports."
_ENTRIES = "aicostguard.capture.entries."
_CAPTURE = "aicostguard.capture."


def _transport(name: str, installer: str, first: Version, end: Version) -> Instrument:
    return Instrument(name, name, _TRANSPORTS + installer, name, (first, end), name + ":__version__")


def _socket(module: str, installer: str, distribution: str, version: str, first: Version, end: Version) -> Instrument:
    """Sessions over sockets, whose module is often not the package itself."""
    return Instrument(module, module, _TRANSPORTS + installer, distribution, (first, end), version)


def _sdk(package: str, module: str, installer: str, distribution: str, first: Version, end: Version) -> Instrument:
    version = "%s:__version__" % (package + "._version")
    return Instrument(package, "%s.%s" % (package, module), _ENTRIES + installer, distribution, (first, end), version)


def _stainless(package: str, distribution: str, first: Version, end: Version) -> Instrument:
    return _sdk(package, "_base_client", "stainless", distribution, first, end)


def _aws(package: str, first: Version, end: Version) -> Instrument:
    return _sdk(package, "client", "botocore", package, first, end)._replace(version=package + ":__version__")


def _named(package: str, module: str, installer: str, distribution: str, first: Version, end: Version) -> Instrument:
    """An SDK whose package itself says its version."""
    return _sdk(package, module, installer, distribution, first, end)._replace(version=package + ":__version__")


def _tornado() -> Tuple[Instrument, Instrument]:
    """Its two clients; the second needs pycurl."""
    simple = Instrument(
        "tornado", "tornado.simple_httpclient", _TRANSPORTS + "tornado", "tornado", ((6,), (7,)), "tornado:version"
    )
    return simple, simple._replace(module="tornado.curl_httpclient")


def _lm15(package: str, distribution: str, first: Version, end: Version) -> Tuple[Instrument, Instrument]:
    """lm15's own HTTP, blocking and not; `package` is where it is kept."""
    version = "%s:__version__" % (distribution if distribution == "dspy" else package + "._version")
    blocking = Instrument(
        distribution, package + ".transports._sync", _TRANSPORTS + "lm15", distribution, (first, end), version
    )
    return blocking, blocking._replace(module=package + ".transports._async")


INSTRUMENTS: Tuple[Instrument, ...] = (
    _transport("httpx", "httpx_like", (0, 23), (1,)),
    _transport("httpx2", "httpx_like", (2,), (3,)),
    _transport("aiohttp", "aiohttp", (3, 8), (4,)),
    _transport("requests", "requests", (2, 25), (3,)),
    _socket("websockets.asyncio.client", "websockets", "websockets", "websockets.version:version", (13,), (18,)),
    _socket("websockets.sync.client", "websockets", "websockets", "websockets.version:version", (13,), (18,)),
    _transport("urllib3", "urllib3", (1, 26), (3,)),
    Instrument("http.client", "http.client", _TRANSPORTS + "http_client", "", ((3, 9), (4,)), "sys:version", False),
    _socket("websocket._core", "websocket_client", "websocket-client", "websocket:__version__", (1, 0), (2,)),
    _socket("aiohttp.client_ws", "aiohttp_ws", "aiohttp", "aiohttp:__version__", (3, 8), (4,)),
    _socket("httpx2.websockets._api", "httpx2_ws", "httpx2", "httpx2:__version__", (2,), (3,)),
    _socket("grpc._channel", "grpc", "grpcio", "grpc._grpcio_metadata:__version__", (1, 60), (2,)),
    _socket("grpc.aio._channel", "grpc", "grpcio", "grpc._grpcio_metadata:__version__", (1, 60), (2,)),
    _transport("niquests", "niquests", (3, 7), (4,)),
    _transport("curl_cffi", "curl_cffi", (0, 7), (1,))._replace(module="curl_cffi.requests.session"),
    *_tornado(),
    *_lm15("dspy._vendor.lm15", "dspy", (3, 4), (4,)),
    *_lm15("lm15", "lm15", (1,), (2,)),
    _transport("baml_py", "baml", (0, 79), (1,))._replace(distribution="baml-py"),
    _stainless("openai", "openai", (1, 30), (4,)),
    _stainless("anthropic", "anthropic", (0, 40), (3,)),
    _stainless("groq", "groq", (0, 9), (2,)),
    _stainless("together", "together", (2,), (4,)),
    _stainless("perplexity", "perplexityai", (0, 10), (1,)),
    _stainless("cerebras.cloud.sdk", "cerebras-cloud-sdk", (1,), (2,)),
    _sdk("google.genai", "_api_client", "google_genai", "google-genai", (1,), (4,))._replace(
        version="google.genai.version:__version__"
    ),
    _sdk("claude_agent_sdk", "_internal.query", "claude_agent", "claude-agent-sdk", (0, 1), (1,)),
    _sdk("claude_agent_sdk", "client", "claude_agent", "claude-agent-sdk", (0, 1), (1,)),
    _sdk("mistralai", "basesdk", "speakeasy", "mistralai", (1,), (2,)),
    _sdk("mistralai.client", "basesdk", "speakeasy", "mistralai", (2,), (4,)),
    _stainless("writerai", "writer-sdk", (2,), (4,)),
    _stainless("fireworks", "fireworks-ai", (1,), (2,)),
    _named("cohere", "core.http_client", "cohere", "cohere", (5,), (8,)),
    _named("ollama", "_client", "ollama", "ollama", (0, 4), (1,)),
    _named("huggingface_hub", "inference._client", "methods", "huggingface-hub", (0, 30), (3,)),
    _named("huggingface_hub", "inference._generated._async_client", "methods", "huggingface-hub", (0, 30), (3,)),
    _named("replicate", "client", "methods", "replicate", (1,), (2,)),
    _named("ai21", "http_client.http_client", "methods", "ai21", (4,), (5,)),
    _named("ai21", "http_client.async_http_client", "methods", "ai21", (4,), (5,)),
    _named("voyageai", "client", "methods", "voyageai", (0, 3), (1,)),
    _named("voyageai", "client_async", "methods", "voyageai", (0, 3), (1,)),
    _named("zhipuai", "core._http_client", "methods", "zhipuai", (2,), (3,)),
    _named("azure.ai.inference", "_patch", "methods", "azure-ai-inference", (1,), (2,)),
    _named("azure.ai.inference", "aio._patch", "methods", "azure-ai-inference", (1,), (2,)),
    _sdk("openrouter", "basesdk", "speakeasy", "openrouter", (1,), (2,)),
    _aws("botocore", (1, 34), (2,)),
    _aws("aiobotocore", (2, 12), (4,)),
)


class Surrounding(NamedTuple):
    """What stands around AI calls and says whose they are; it makes none itself. `installer` is one of ours."""

    module: str
    installer: str


#: Where work changes its thread or task. Hooked when the first library above is: a program without one is left alone.
HANDOVERS: Tuple[Surrounding, ...] = (
    Surrounding("threading", "handover.threads"),
    Surrounding("concurrent.futures.thread", "handover.pools"),
    Surrounding("multiprocessing.pool", "handover.thread_pools"),
    Surrounding("multiprocessing.process", "handover.processes"),
    Surrounding("asyncio.base_events", "handover.tasks"),
    Surrounding("uvloop", "handover.uvloop"),
    Surrounding("anyio._backends._asyncio", "handover.anyio"),
)
#: What answers in a provider's place with what was paid for before.
REPLAYS: Tuple[Surrounding, ...] = (Surrounding("vcr.cassette", "replays"), Surrounding("vcr.patch", "replays"))
#: Where a refusal comes out of libraries that wrap and retry.
EXITS: Tuple[Surrounding, ...] = tuple(
    Surrounding(module, "exits")
    for module in (
        "litellm.main",
        "litellm.responses.main",
        "litellm.rerank_api.main",
        "litellm.litellm_core_utils.streaming_handler",
        "haystack.core.pipeline.pipeline",
        "haystack.core.pipeline.async_pipeline",
        "semantic_kernel.connectors.ai.chat_completion_client_base",
        "crewai.crew",
        "crewai.llm",
        "aisuite.client",
        "dspy.clients.base_lm",
        "agent_framework._clients",
        "agent_framework._types",
        "smolagents",
    )
)
#: What declares routes, tasks and agents; left alone under `AICG_AUTO_LABELS=0`.
FRAMEWORKS: Tuple[Surrounding, ...] = (
    Surrounding("starlette.routing", "frameworks.starlette"),
    Surrounding("fastapi.routing", "frameworks.fastapi"),
    Surrounding("flask.app", "frameworks.flask"),
    Surrounding("django.core.handlers.base", "frameworks.django"),
    Surrounding("celery.app.task", "frameworks.celery"),
    Surrounding("agents.run", "frameworks.openai_agents"),
    Surrounding("pydantic_ai._agent_graph", "frameworks.pydantic_ai"),
    Surrounding("langgraph.pregel._algo", "frameworks.langgraph"),
    Surrounding("agent_framework._agents", "frameworks.agent_framework"),
    *(
        Surrounding(module, "frameworks.named")
        for module in (
            "crewai.agent.core",
            "google.adk.agents.base_agent",
            "agno.agent._run",
            "agno.team._run",
            "strands.agent.agent",
            "autogen_agentchat.agents._assistant_agent",
            "smolagents.agents",
            "semantic_kernel.agents.chat_completion.chat_completion_agent",
        )
    ),
    *(
        Surrounding("llama_index.core.agent.workflow." + module, "frameworks.llama_index")
        for module in ("base_agent", "function_agent", "react_agent", "codeact_agent")
    ),
)

#: What is waited for later, when the first library is there: it may be its own import that brings that one.
_LATER = frozenset(row.module for row in (*HANDOVERS, *FRAMEWORKS))

#: what is hooked whenever a module of this name is imported
_rows: Dict[str, Union[Instrument, Surrounding]] = {}
_hooks: Dict[str, Hook] = {}
_finder: Optional[_Finder] = None
_ready: Optional[Callable[[], None]] = None


def install(ready: Optional[Callable[[], None]] = None) -> None:
    """Hook what is imported already, and wait for the rest. Doing it twice does nothing.

    `ready` is called when there is something to meter: before the first hook, and never when no library is imported.
    """
    global _finder, _ready
    if _finder is not None:
        return
    _ready = ready
    _finder = _Finder()
    sys.meta_path.insert(0, _finder)
    # Exits with them: a library may import an HTTP client while it is being imported itself.
    _await((*INSTRUMENTS, *EXITS, *REPLAYS))


def _await(rows: Iterable[Union[Instrument, Surrounding]]) -> None:
    """Hook what is imported already, and wait for the rest."""
    added = {row.module: row for row in rows}
    _rows.update(added)
    for name in added:
        module = None if name in _hooks else sys.modules.get(name)
        if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            _hook(module, name)


def uninstall() -> None:
    """Take the finder and every hook away again."""
    global _finder
    if _finder is not None:
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        _finder = None
    _rows.clear()
    patch.restore()
    _hooks.clear()
    state.readers.clear()


def states() -> Dict[str, str]:
    """`module: state` of every library that was hooked, for the status file."""
    return {name: hook.state for name, hook in list(_hooks.items())}


def _hook(module: ModuleType, name: str) -> None:
    row = _rows.get(name)
    # Another library may stand under this name (`httpx2.alias_httpx`): its own row hooks it. What surrounds calls may
    # call its modules what it likes (CrewAI does).
    if isinstance(row, Instrument) and getattr(module, "__name__", name) != name:
        return
    if row is None:
        return
    if isinstance(row, Surrounding):
        _hook_surrounding(row, module)
        return
    hook = _hook_of(name, row.label)
    try:
        if _ready is not None and row.ready:
            _ready()
        _check_version(row)
        installer: Any = import_module(row.installer)
        installer.install(module, hook)
        caller.library(row.module)
    except Exception as error:
        hook.on = False
        hook.state = "failed: %s" % type(error).__name__
        health.warn(
            "unsupported:" + row.label,
            "aicostguard: this version of %s does not look like the ones we know; calls that go through it may not be "
            "counted. Run aicg-diagnose." % row.label,
        )
        health.fault("hooks.%s" % row.label, error)
    if row.ready and HANDOVERS[0].module not in _rows:
        _await(HANDOVERS + (FRAMEWORKS if state.automatic else ()))


def _hook_of(name: str, label: str) -> Hook:
    """The hook of a module: where it is imported anew, the same one, which knows of its faults until now."""
    hook = _hooks.get(name)
    if hook is None or hook.state.startswith("failed"):
        hook = _hooks[name] = Hook(label)
    return hook


def _hook_surrounding(row: Surrounding, module: ModuleType) -> None:
    hook = _hook_of(row.module, row.module)
    try:
        installer: Any = import_module(_CAPTURE + row.installer)
        installer.install(module, hook)
    except Exception as error:
        hook.on = False
        hook.state = "failed: %s" % type(error).__name__
        health.warn(
            "surrounding:" + row.module,
            "aicostguard: %s does not look like the one we know; AI calls made through it are counted, but may lack "
            "their labels and their calling function. Run aicg-diagnose." % row.module,
        )
        health.fault("hooks.%s" % row.module, error)


def _check_version(row: Instrument) -> None:
    version = installed_version(row)
    if version and not row.tested[0] <= version < row.tested[1]:
        health.warn(
            "unsupported:" + row.label,
            "aicostguard: %s %s is outside the versions we test (%s up to, but not, %s); its calls are metered as far "
            "as they look familiar. Run aicg-diagnose to see what is counted."
            % (row.label, _dotted(version), _dotted(row.tested[0]), _dotted(row.tested[1])),
        )


def installed_version(row: Instrument) -> Optional[Version]:
    """The version of a library that is imported, as numbers; None when it does not say."""
    name, _, attribute = row.version.partition(":")
    text = getattr(sys.modules.get(name), attribute, None)
    return parse_version(text) if isinstance(text, str) else None


def parse_version(text: str) -> Version:
    """The leading numbers of a version: `"2.0rc1"` gives `(2, 0)`."""
    numbers: List[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


class _Finder:
    """First on `sys.meta_path`: finds nothing itself, but notices when a library we wait for is imported."""

    def __init__(self) -> None:
        self._busy: Dict[str, None] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if (name not in _rows and name not in _LATER) or name in self._busy:
            return None
        self._busy[name] = None
        try:
            return self._watched(name, path, target)
        finally:
            self._busy.pop(name, None)

    def _watched(self, name: str, path: Any, target: Any) -> Any:
        # Ask the others in their order, as the import system does, so that their errors are theirs.
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                try:
                    self._watch(spec)
                except Exception as error:
                    health.fault("hooks.watch", error)
                return spec
        return None

    def _watch(self, spec: Any) -> None:
        loader = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return

        def exec_module(module: ModuleType) -> None:
            # The attribute goes first: whatever the module does with its loader, it finds the loader as it was.
            if loader.__dict__.get("exec_module") is exec_module:
                del loader.exec_module
            loader.exec_module(module)
            _hook(sys.modules.get(spec.name, module), spec.name)

        # On the loader object, not around it: `module.__loader__` stays what it was. Loaders that are shared
        # between modules (zipimport) are used for one module at a time, under the import lock of its name.
        loader.exec_module = exec_module
