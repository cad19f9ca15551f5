"""Is this request one to an AI provider, which format does it speak, and can it cost anything?

Owns the tables of paths. Pure: method, host, port and path in, `Endpoint` out. A miss must cost no more than
a look-up of the host. Never guesses a format from a host alone. If this breaks, calls go unmetered (and are
counted as unrecognised when the host is known) or a program's other traffic is metered.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, NamedTuple, Optional, Tuple, Union

from aicostguard.metering.job_rows import OPENAI_JOBS
from aicostguard.metering.provider import Path, Provider
from aicostguard.metering.providers import BY_FORMAT, BY_SDK, CUSTOM, PROVIDERS, HostTable, rules


class Endpoint(NamedTuple):
    """What recognition says of a request.

    `format` is a row of `table.MODULES`, or "" for an endpoint that never bills. A format of
    `formats.RETRIEVALS` is an answer that is fetched: its readings are billable only when their
    `response_id` was seen `pending` before and has not been billed since; otherwise they have to be dropped. One of
    `table.RESULTS` is billable when its `id` is fetched here for the first time.
    """

    #: value of `provider` on the receipt
    provider: str
    format: str
    #: model named by the URL (Gemini, Azure deployment, Vertex, Bedrock)
    url_model: Optional[str] = None
    #: False for a known endpoint that never bills: silent, not "unrecognised"
    bills: bool = True
    #: location named by host or path
    region: Optional[str] = None
    #: id of what is fetched, where only the URL names it
    id: Optional[str] = None


class _Unrecognised:
    """A known AI host, or one the user named, with a path that is in no table."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNRECOGNISED"

    def __bool__(self) -> bool:
        return False


UNRECOGNISED = _Unrecognised()
Found = Union[Endpoint, None, _Unrecognised]
Hosts = Iterable[Tuple[str, Optional[int], Optional[str]]]

#: end of the path → format. `messages` is OpenAI's too, under /threads/: the row's `formats` keep them apart
_ENDS: Tuple[Tuple[str, str], ...] = (
    ("/chat/completions", "chat"),
    ("/completions", "completions"),
    ("/embeddings", "embeddings"),
    ("/responses", "responses"),
    ("/responses/compact", "responses"),
    ("/messages", "messages"),
    ("/v1/sonar", "chat"),
    ("/rerank", "rerank"),
    ("/decisions", "responses"),
    ("/images/generations", "images"),
    ("/images/edits", "images"),
    ("/images/variations", "images"),
    ("/audio/transcriptions", "transcription"),
    ("/audio/translations", "transcription"),
    ("/audio/speech", "speech"),
)
_FORMAT_OF_LAST: Dict[str, Tuple[Tuple[str, str], ...]] = {}
for _end, _format in _ENDS:
    _last = _end.rsplit("/", 1)[1]
    _FORMAT_OF_LAST[_last] = (*_FORMAT_OF_LAST.get(_last, ()), (_end, _format))

# Patterns stay text: `re` compiles and keeps them at their first use, and none is used before an AI host is met.
#: a POST to one of these creates, counts or stores; what it starts is billed elsewhere, or never
_FREE = (
    r"/(files|uploads|batches|fine_tuning|fine-tuning|vector_stores|assistants|containers|conversations|evals|"
    r"traces|tcp_warming|count_tokens|input_tokens|cachedContents|skills|organization|key|keys|auth|feedback|"
    r"client_secrets|tokenize|token-count)(/|\Z)"
    r"|/threads(/thread_[^/]+(/messages)?)?\Z"
)
#: the method under which a WebSocket session is recognised: it is opened by a GET, and bills by its messages
SOCKET = "WS"
#: path of a session → format, whoever serves it
_SOCKETS: Tuple[Tuple[str, str], ...] = (
    (r"/audio/transcriptions/realtime\Z", "transcriptions_socket"),
    (r"/realtime\Z", "realtime"),
    (r"/responses\Z", "responses_socket"),
    (r"[./]BidiGenerateContent(Constrained)?\Z", "bidi"),
    (r"/interactions/live\Z", "interactions_socket"),
)
#: answers to a GET that can carry usage which no table reads yet
_LATER_GET = r"/async/|/predictions/"
_DEPLOYMENT = r"/deployments/([^/]+)/"
_GOOGLE = r"/(?:models|tunedModels|endpoints)/([^/:]+):(\w+)\Z"
_PUBLISHER = r"/publishers/([^/]+)/models/"
_LOCATION = r"/locations/([a-z0-9-]{1,32})/"
_REGION_LABEL = r"[a-z]{2,3}(-[a-z0-9]+)*\Z"

#: verb of a Google path → format; None: the endpoint never bills
_VERBS: Dict[str, Optional[str]] = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "embedContent": "gemini_embeddings",
    "batchEmbedContents": "gemini_embeddings",
    "predict": "vertex_predict",
    "countTokens": None,
    "computeTokens": None,
    "batchGenerateContent": None,
    "asyncBatchEmbedContent": None,
}
#: publisher of a Vertex `rawPredict` or `streamRawPredict` → format
_RAW_PREDICT: Dict[str, str] = {"anthropic": "messages", "mistralai": "chat"}

_TABLE = HostTable(PROVIDERS)
#: port → the row that it names
_PORTS: Dict[int, Provider] = {port: row for row in PROVIDERS for port in row.ports}
#: paths that name their provider at any host
_ANYWHERE: Tuple[Tuple[Provider, Path], ...] = tuple(
    (row, entry) for row in PROVIDERS for entry in row.paths if entry.anywhere
)
_known: Dict[str, Optional[Provider]] = {}
_KNOWN_MOST = 1024


def recognise(
    method: str, host: str, port: Optional[int], path: str, hosts: Hosts = (), sdk: Optional[str] = None
) -> Found:
    """What a request is: an `Endpoint`; None when it is none of ours; `UNRECOGNISED` on an AI host.

    `host` is lower-case and `path` without its query. `hosts` are the rows of `Settings.hosts`. `sdk` is the
    family of the AI SDK that made the call, used only for a host that nobody knows.
    """
    for name, at, provider in hosts:
        if (at is None or at == port) and _is(host, name):
            return _at_custom_host(method, path, provider, sdk)
    try:
        row = _known[host]
    except KeyError:
        row = _TABLE.find(host)
        if len(_known) < _KNOWN_MOST:
            _known[host] = row
    if row is not None:
        return _at_row(row, method, host, path)
    if port in _PORTS:
        found = _at_row(_PORTS[port], method, host, path)
        if found is not UNRECOGNISED:
            return found
    if sdk is None:
        return None
    # At a host that nobody knows an unknown path may be anything an SDK does: sign-in, metadata, a download.
    return _at_custom_host(method, path, None, sdk) or None


def is_ai_host(host: str, port: Optional[int], hosts: Hosts = ()) -> bool:
    """Is this one of a provider's, or one that the user named? `host` is lower-case."""
    if any((at is None or port is None or at == port) and _is(host, name) for name, at, _ in hosts):
        return True
    return _TABLE.find(host) is not None


def _is(host: str, pattern: str) -> bool:
    if "*" not in pattern:
        return host == pattern
    if pattern.startswith("*.") and "*" not in pattern[1:]:
        return host.endswith(pattern[1:])
    from fnmatch import fnmatchcase

    return fnmatchcase(host, pattern)


def _at_row(row: Provider, method: str, host: str, path: str) -> Found:
    if row.within and not path.startswith(row.within):
        return None
    found: Found = None
    if method == SOCKET:
        found = _by_socket(row.name, host, path)
    else:
        found = _by_table(row, method, path)
        native = _NATIVE.get(row.name)
        if native is not None and found is None:
            found = native(row.name, method, host, path)
            if found is not None:
                return found
        found = found or _by_path(row, row.name, method, path)
    if row.region is not None and isinstance(found, Endpoint) and found.bills:
        return found._replace(region=_host_region(host, row.region))
    return found


def _host_region(host: str, at: int) -> Optional[str]:
    """`us-east-1` of `bedrock-runtime.us-east-1.amazonaws.com`, `eu` of `eu.api.openai.com`."""
    labels = host.split(".")
    if labels[0].startswith("vpce-"):
        # An interface endpoint in the user's own network: its id stands in front.
        at += 1
    label = labels[at] if at < len(labels) else ""
    return label if label != "api" and re.match(_REGION_LABEL, label) else None


def _by_socket(name: str, host: str, path: str) -> Found:
    """A session, by the end of its path."""
    for pattern, form in _SOCKETS:
        if re.search(pattern, path.rstrip("/")):
            location = host.partition("-aiplatform")[0] if "-aiplatform" in host else None
            return Endpoint(name, form, None, True, location)
    return UNRECOGNISED


def _by_table(row: Provider, method: str, path: str) -> Optional[Endpoint]:
    """The paths of the provider's own."""
    for entry in row.paths:
        found = _at(row, entry, method, path)
        if found is not None:
            return found
    return None


def _at(row: Provider, entry: Path, method: str, path: str) -> Optional[Endpoint]:
    match = re.search(entry.pattern, path) if entry.method == method else None
    if match is None:
        return None
    named = match.groupdict()
    model = _plain(named["model"]) if named.get("model") else _deployment(path)
    return Endpoint(row.name, entry.format, model, bool(entry.format), _location(path), named.get("id"))


def _at_custom_host(method: str, path: str, provider: Optional[str], sdk: Optional[str]) -> Found:
    """A host that the user named, or that an AI SDK talks to: every format may stand there.

    What the user says comes first, then the SDK's own provider, then a path that only one provider has.
    """
    if method == SOCKET:
        session = _by_socket(provider or "custom", "", path)
        if isinstance(session, Endpoint) and not provider:
            return session._replace(provider=BY_FORMAT.get(session.format, "custom"))
        return session
    row = rules(provider) if provider else BY_SDK.get(sdk or "", CUSTOM)
    found = _google(provider or "", method, "", path)
    if isinstance(found, Endpoint) and found.bills:
        return found._replace(provider=provider or BY_FORMAT.get(found.format, "custom"))
    own = _by_table(row, method, path)
    if own is not None:
        return own
    if not provider:
        theirs = UNRECOGNISED if row is CUSTOM else _by_path(row, row.name, method, path)
        if isinstance(theirs, Endpoint) and theirs.bills:
            return theirs
        row = CUSTOM
        for owner, entry in _ANYWHERE:
            own = _at(owner, entry, method, path)
            if own is not None:
                return own
    wide = row._replace(formats=(*row.formats, "messages") if "messages" not in row.formats else row.formats)
    if "/threads/" in path:
        wide = row
    name = provider or ("azure" if "/openai/deployments/" in path else "custom")
    found = _by_path(wide, name, method, path)
    if isinstance(found, Endpoint) and not provider and name == "custom":
        return found._replace(provider=BY_FORMAT.get(found.format, "custom"))
    return found


def _by_path(row: Provider, name: str, method: str, path: str) -> Found:
    """The OpenAI-shaped part: the end of the path decides."""
    if path.endswith("/"):
        path = path.rstrip("/")
    if method == "POST":
        for end, form in _FORMAT_OF_LAST.get(path[path.rfind("/") + 1 :], ()):
            if path.endswith(end) and form in row.formats and "/threads/" not in path:
                return Endpoint(name, form, _deployment(path))
    for entry in OPENAI_JOBS if "responses" in row.formats else ():
        job = _at(row, entry, method, path)
        if job is not None:
            return job._replace(provider=name)
    if method == "POST":
        if re.search(_FREE, path) or (row.free and path.endswith(row.free)):
            return Endpoint(name, "", None, False)
        return UNRECOGNISED
    if method == "GET" and re.search(_LATER_GET, path):
        return UNRECOGNISED
    return Endpoint(name, "", None, False)


def _deployment(path: str) -> Optional[str]:
    if "/deployments/" not in path:
        return None
    match = re.search(_DEPLOYMENT, path)
    return _plain(match.group(1)) if match else None


def _plain(name: str) -> str:
    if "%" not in name:
        return name
    from urllib.parse import unquote

    return unquote(name)


def _google(name: str, method: str, host: str, path: str) -> Found:
    """`…/models/NAME:verb` of the Gemini API and of Vertex."""
    match = re.search(_GOOGLE, path)
    if match is None or method != "POST":
        if name == "vertex" and "/endpoints/openapi/" not in path:
            # Vertex serves data sets, pipelines and more under the same host: not ours.
            return None if "/publishers/" in path or "/responses/" in path else Endpoint(name, "", None, False)
        return None
    model, verb = _plain(match.group(1)), match.group(2)
    region = _location(path) if name == "vertex" else None
    if verb in ("rawPredict", "streamRawPredict"):
        publisher = re.search(_PUBLISHER, path)
        if model.startswith("count-tokens"):
            return Endpoint(name, "", None, False)
        form = _RAW_PREDICT.get(publisher.group(1)) if publisher else None
        return Endpoint(name, form, model, True, region) if form else UNRECOGNISED
    if verb not in _VERBS:
        return UNRECOGNISED
    form = _VERBS[verb]
    return Endpoint(name, form, model, True, region) if form else Endpoint(name, "", None, False)


def _location(path: str) -> Optional[str]:
    match = re.search(_LOCATION, path)
    return match.group(1) if match else None


#: providers whose paths need more than their ending
_NATIVE: Dict[str, Callable[[str, str, str, str], Found]] = {"google": _google, "vertex": _google}
