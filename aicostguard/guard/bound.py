"""The most that a call can use, read off its request.

Owns the tables that say where each format states its maximum of output, how many answers it asks for, and what makes a
request's use unknowable: content that lies outside of it, tools that the provider runs itself, media, no maximum. Pure:
bytes in, `Asked` out. Input is bounded by size: no tokenizer makes more tokens of a text than it has UTF-8 bytes, and
JSON only makes a text longer. What providers add by themselves (the prompt that explains tools) is added here.

If a bound is too low, budgets are passed by calls that were let through; if one is unknown that need not be, the
policy's `on_unknown_bound` decides about it.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.scan import members
from aicostguard.metering.table import form
from aicostguard.metering.values import parse, text

#: why a bound is not known
OUTSIDE, TOOLS, MEDIA, UNREADABLE, NO_MAXIMUM = "outside", "tools", "media", "unreadable", "no-maximum"

#: no answer is longer; a maximum beyond it is none
_MOST = 10**9


class Asked(NamedTuple):
    """What a request asks for. `tier` and `region` are those it names; `unknown` says why a count is None."""

    model: Optional[str] = None
    tier: Optional[str] = None
    region: Optional[str] = None
    input_tokens: Optional[int] = None
    output_tokens: Optional[int] = None
    unknown: Optional[str] = None


class Shape(NamedTuple):
    """One format. `most` are the places of its maximum (several: the largest), `times` of how many answers it asks for.

    `home` is the provider's own default where the request sets no maximum, and the provider that documents it: the
    same format elsewhere has another, or none. `silent` formats bill no output.
    """

    most: Tuple[str, ...] = ()
    times: Tuple[str, ...] = ()
    home: Tuple[Tuple[str, int], ...] = ()
    silent: bool = False


_CHAT = Shape(("max_completion_tokens", "max_tokens"), ("n",))
_SILENT = Shape(silent=True)

#: format → where it says how much it may use. A format that is not here cannot be bounded by tokens
SHAPES: Dict[str, Shape] = {
    "chat": _CHAT,
    # https://platform.openai.com/docs/api-reference/completions/create (max_tokens)
    "completions": Shape(("max_tokens", "max_completion_tokens"), ("n", "best_of"), (("openai", 16),)),
    "responses": Shape(("max_output_tokens",)),
    "messages": Shape(("max_tokens",)),
    "complete": Shape(("max_tokens_to_sample",)),
    "generate": Shape(
        ("generationConfig.maxOutputTokens", "generation_config.max_output_tokens"),
        ("generationConfig.candidateCount", "generation_config.candidate_count"),
    ),
    "interactions": Shape(("generation_config.max_output_tokens",)),
    "converse": Shape(("inferenceConfig.maxTokens", "additionalModelRequestFields.max_tokens")),
    # Families of models, each with its own: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
    "bedrock_invoke": Shape(
        (
            *("max_tokens", "max_completion_tokens", "max_tokens_to_sample", "max_gen_len", "maxTokens"),
            *("inferenceConfig.maxTokens", "inferenceConfig.max_new_tokens", "textGenerationConfig.maxTokenCount"),
        ),
        ("num_generations", "numResults", "n"),
    ),
    "cohere_v1": Shape(("max_tokens",), ("num_generations",)),
    "cohere_v2": Shape(("max_tokens",)),
    "ollama": Shape(("options.num_predict",)),
    "tgi": Shape(("parameters.max_new_tokens",), ("parameters.best_of", "parameters.num_return_sequences")),
    # https://cloud.ibm.com/apidocs/watsonx-ai#text-generation (max_new_tokens)
    "watsonx": Shape(("parameters.max_new_tokens",), (), (("watsonx", 20),)),
    "watsonx_chat": _CHAT,
    "dashscope": Shape(("parameters.max_tokens",), ("parameters.n",)),
    "aleph_alpha": Shape(("maximum_tokens",), ("n", "best_of")),
    "cloudflare": Shape(("max_tokens",)),
    **dict.fromkeys(
        (
            *("embeddings", "gemini_embeddings", "cohere_embeddings", "ollama_embeddings", "watsonx_embeddings"),
            *("dashscope_embeddings", "aleph_alpha_embeddings", "bedrock_embeddings", "unmeasured_embeddings"),
            *("rerank", "cohere_rerank", "dashscope_rerank", "bedrock_rerank", "unmeasured_rerank", "moderation"),
        ),
        _SILENT,
    ),
}

#: member of the body → what is unknown because of it
_MEMBERS: Dict[str, str] = {
    "previous_response_id": OUTSIDE,
    "previous_interaction_id": OUTSIDE,
    "conversation": OUTSIDE,
    "conversation_id": OUTSIDE,
    "cachedContent": OUTSIDE,
    "cached_content": OUTSIDE,
    "agent": OUTSIDE,
    "agent_id": OUTSIDE,
    # Another model may answer, at another price (https://openrouter.ai/docs/features/model-routing).
    "models": OUTSIDE,
    # A stored model, system prompt and tools (https://openrouter.ai/docs/features/presets).
    "preset": OUTSIDE,
    "fallbacks": OUTSIDE,
    "route": OUTSIDE,
    # Steps that the provider adds to the answer, each billed.
    "context_management": TOOLS,
    "container": TOOLS,
    "mcp_servers": TOOLS,
    "plugins": TOOLS,
    "connectors": TOOLS,
    "web_search_options": TOOLS,
    "search_parameters": TOOLS,
    "enable_search": TOOLS,
    "compound_custom": TOOLS,
    "transforms": TOOLS,
    "data_sources": TOOLS,
}
#: part of a model's name → the same
_MODELS: Tuple[Tuple[str, str], ...] = (
    ("compound", TOOLS),
    ("-search", TOOLS),
    ("sonar", TOOLS),
    ("deep-research", TOOLS),
    (":online", TOOLS),
    ("router", OUTSIDE),
    ("/auto", OUTSIDE),
)
#: keys anywhere in a message that stand for what cannot be counted by its bytes
_PARTS: Dict[str, str] = {
    **dict.fromkeys(("file_id", "file_uri", "fileUri", "file_url", "fileData", "file_data", "s3Location"), OUTSIDE),
    **dict.fromkeys(("uri", "url", "tool_references"), OUTSIDE),
    **dict.fromkeys(("image_url", "inlineData", "inline_data", "input_audio", "images", "media_type"), MEDIA),
    **dict.fromkeys(("image", "video", "document", "audio_url", "video_url", "image_base64"), MEDIA),
}
#: values of `type` that do the same
_TYPES: Dict[str, str] = {
    **dict.fromkeys(("item_reference", "input_file", "file", "document_url"), OUTSIDE),
    # Items of an answer before, kept by the provider and looked up by their ids: their text, pages, files and pictures.
    **dict.fromkeys(("reasoning", "web_search_call", "file_search_call"), OUTSIDE),
    **dict.fromkeys(("code_interpreter_call", "image_generation_call"), OUTSIDE),
    **dict.fromkeys(("image", "input_image", "document", "audio", "video"), MEDIA),
}
#: bytes without one of which no part is looked for
_NEEDLES: Tuple[bytes, ...] = tuple(b'"%s"' % name.encode() for name in (*_PARTS, *_TYPES))
#: tools that run on the caller's side, by their `type`; Anthropic's carry a date
_LOCAL = ("function", "custom", "bash_", "text_editor_", "computer_", "memory_", "local_shell", "apply_patch")
#: the same where a tool has no type
_DECLARED = {"functionDeclarations", "function_declarations", "toolSpec", "cachePoint"}
#: tokens that a provider adds to explain that there are tools, and each of its own that it knows by heart
#: (https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing)
_EXPLAINED, _EACH = 1024, 1024
#: tokens around the messages; and of what is put into words for a request that has one of these members
_FRAME, _PREAMBLE = 32, 512
_IN_WORDS = (
    *("safe_prompt", "response_format", "output_format", "output_config", "text", "format", "thinking", "reasoning"),
    *("reasoning_effort", "documents", "guardrailConfig", "additionalModelRequestFields"),
)

#: where the requested tier, speed and place of work stand
_TIER = ("service_tier", "speed", "performanceConfig.latency")
_REGION = ("inference_geo",)


def read(endpoint: Endpoint, body: Optional[bytes]) -> Asked:
    """What this request can use at most. Never raises for what a program sends."""
    shape = SHAPES.get(endpoint.format)
    if shape is None:
        model = _model(endpoint, body or b"", {})
        return Asked(model, unknown=UNREADABLE if body is None else OUTSIDE)
    if not body:
        return Asked(endpoint.url_model, output_tokens=0 if shape.silent else None, unknown=UNREADABLE)
    if shape.silent:
        return _silent(endpoint, body)
    given = parse(body)
    if type(given) is not dict:
        return Asked(endpoint.url_model, unknown=UNREADABLE)
    model = _model(endpoint, body, given)
    found = Asked(model, _first(given, _TIER), _first(given, _REGION))
    why = _unknown(given, body, model or "")
    if why is not None:
        return found._replace(unknown=why)
    given_in = len(body) + _explained(given)
    output = _output(shape, endpoint.provider, given)
    if output is None:
        return found._replace(input_tokens=given_in, unknown=NO_MAXIMUM)
    return found._replace(input_tokens=given_in, output_tokens=output + _repeated(given, len(body)))


def _silent(endpoint: Endpoint, body: bytes) -> Asked:
    """What bills its input alone. Not parsed when it is large: texts to embed are the longest bodies there are."""
    given: Mapping[str, Any] = members(body, "model", ("model_id",)) or {}
    found = Asked(_model(endpoint, body, given), output_tokens=0)
    size = len(body) + _FRAME
    if "rerank" in endpoint.format:
        # The query is read anew for each document.
        whole = parse(body)
        if type(whole) is not dict:
            return found._replace(unknown=UNREADABLE)
        query = len(str(whole.get("query") or "").encode("utf-8", "replace")) + 16
        size += query * sum(len(value) for value in whole.values() if type(value) is list)
    if body[:1] not in (b"{", b"["):
        return found._replace(unknown=UNREADABLE)
    why = _in_parts(parse(body)) if _may_hold_parts(body) else None
    return found._replace(unknown=why) if why else found._replace(input_tokens=size)


def _model(endpoint: Endpoint, body: bytes, given: Mapping[str, Any]) -> Optional[str]:
    named = text(given.get("model")) or text(given.get("model_id"))
    row = form(endpoint.format)
    if row is not None and row.model is not None:
        return row.model(named, endpoint.url_model, lambda: body)
    return named or endpoint.url_model


def _unknown(given: Mapping[str, Any], body: bytes, model: str) -> Optional[str]:
    """Why the use of this request is not known by its text; None when it is."""
    for name, why in _MEMBERS.items():
        if given.get(name):
            return why
    if type(given.get("prompt")) is dict:  # a stored one, by its id
        return OUTSIDE
    name = model.lower()
    for part, why in _MODELS:
        if part in name:
            return why
    for tool in _tools(given):
        if not _is_local(tool):
            return TOOLS
    return _in_parts(given) if _may_hold_parts(body) else None


def _tools(given: Mapping[str, Any]) -> Iterator[Any]:
    config = given.get("toolConfig")
    for tools in (given.get("tools"), config.get("tools") if type(config) is dict else None):
        if type(tools) is list:
            yield from tools
        elif type(tools) is dict:  # Google takes one for a list of one
            yield tools


def _is_local(tool: Any) -> bool:
    if type(tool) is not dict:
        return False
    kind = tool.get("type")
    if type(kind) is str:
        return kind.startswith(_LOCAL)
    return "name" in tool or "function" in tool or _DECLARED.issuperset(tool)


def _explained(given: Mapping[str, Any]) -> int:
    tools = list(_tools(given))
    own = sum(1 for tool in tools if tool.get("type") not in (None, "function", "custom"))
    words = _PREAMBLE if any(given.get(name) for name in _IN_WORDS) else _FRAME
    return words + (_EXPLAINED if tools or given.get("functions") else 0) + own * _EACH


def _may_hold_parts(body: bytes) -> bool:
    return any(needle in body for needle in _NEEDLES)


def _in_parts(value: Any) -> Optional[str]:
    """What a part of a message refers to or holds. Declarations of tools are left out: their names are the caller's."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if type(each) is list:
            waiting.extend(each)
        elif type(each) is dict:
            for name, inner in each.items():
                if name in _PARTS and inner:
                    return _PARTS[name]
                if name == "type" and type(inner) is str and inner in _TYPES and not _is_whole(each):
                    return _TYPES[inner]
                if name == "audio" and type(inner) is dict and inner.get("id"):  # an answer before, spoken
                    return OUTSIDE
                if name not in ("tools", "toolConfig", "functions", "response_format", "output_format", "metadata"):
                    waiting.append(inner)
    return None


def _is_whole(part: Mapping[str, Any]) -> bool:
    """A document that is text, or reasoning that is sent along: no less than what it stands for."""
    source = part.get("source")
    return bool(part.get("encrypted_content")) or (type(source) is dict and source.get("type") in ("text", "content"))


def _output(shape: Shape, provider: str, given: Mapping[str, Any]) -> Optional[int]:
    stated = [value for value in _values(given, shape.most) if value is not None]
    if any(type(value) is not int or not 0 < value <= _MOST for value in stated):
        return None
    most: Optional[int] = max(stated) if stated else dict(shape.home).get(provider)
    if most is None:
        return None
    answers = [value for value in _values(given, shape.times) if value is not None]
    if any(type(value) is not int or not 0 < value <= _MOST for value in answers):
        return None
    prompts = given.get("prompt")
    several = len(prompts) if type(prompts) is list and prompts and type(prompts[0]) is not int else 1
    return int(most * max([1, *answers]) * several)


def _repeated(given: Mapping[str, Any], size: int) -> int:
    """Input that may be billed as output once more: an echo, and what was predicted and not taken."""
    return size if given.get("echo") or given.get("prediction") else 0


def _first(given: Mapping[str, Any], paths: Iterable[str]) -> Optional[str]:
    return next((value for value in _values(given, paths) if type(value) is str and value), None)


def _values(given: Mapping[str, Any], paths: Iterable[str]) -> Iterator[Any]:
    for path in paths:
        value: Any = given
        for name in path.split("."):
            value = value.get(name) if type(value) is dict else None
        yield value
