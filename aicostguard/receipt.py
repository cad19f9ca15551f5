"""The receipt: the one thing that leaves the process, and the closed list of what it may hold.

Owns the list of keys, what each value may be, how a value that does not fit is replaced, and the
encoding. Never takes a value it cannot name: text of a prompt, a response or a header has no key to
travel under, and a string that does not match the narrow pattern of its key is replaced by a hash.
If this module is wrong, the product leaks; `tests/safety/test_safety_payload_keys_only.py` feeds it poison.

Adding a key is one row in `FIELDS`; agent and ledger read the same table.
"""

from __future__ import annotations

import re
from itertools import compress
from operator import itemgetter
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from aicostguard.usage import Usage

#: version of receipt and envelope, sent as `schema`
SCHEMA = 1

#: the six keys of a plain call, in order
CORE = ("provider", "model", "input_tokens", "output_tokens", "latency_ms", "feature")

MAX_TOKENS = 10**9  # per receipt; SQLite's SUM raises on overflow, so inputs are bounded
MAX_NANOUSD = 10**13  # ten thousand dollars a call
MAX_TAGS = 16

_LABEL = re.compile(r"[\w.:/@ -]{1,128}\Z")
_MODEL = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9_.:/@+~-]{0,199}\Z")
_SLUG = re.compile(r"[a-z0-9_-]{1,32}\Z")
_REGION = re.compile(r"[a-z0-9-]{1,32}\Z")
_TAG_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}\Z")

OPERATIONS = ("embeddings", "image", "audio", "rerank", "moderation", "batch", "realtime")


class Field(NamedTuple):
    """One key. `fits` tells whether a value may stand under it; `expects` says the same to a person.

    `most` is the largest value of an integer key.
    """

    fits: Callable[[Any], bool]
    expects: str
    kind: str
    most: int = 0


def _count(most: int) -> Field:
    def fits(value: Any) -> bool:
        return type(value) is int and 0 <= value <= most

    return Field(fits, "an integer from 0 to %d" % most, "int", most)


def _text(pattern: re.Pattern[str], kind: str) -> Field:
    def fits(value: Any) -> bool:
        return type(value) is str and pattern.match(value) is not None

    return Field(fits, "text matching %s" % pattern.pattern.replace("\\Z", ""), kind)


def is_tag(name: str) -> bool:
    """Whether this may be the name of a tag."""
    return _TAG_KEY.match(name) is not None


def _tags_fit(value: Any) -> bool:
    return (
        type(value) is dict
        and len(value) <= MAX_TAGS
        and all(type(k) is str and _TAG_KEY.match(k) and type(v) is str and _LABEL.match(v) for k, v in value.items())
    )


_tokens = _count(MAX_TOKENS)
_millis = _count(10**10)
_label = _text(_LABEL, "label")
_flag = Field(lambda value: value is True, "true, or the key left out", "flag")

#: every key a receipt may carry
FIELDS: Dict[str, Field] = {
    "provider": _text(_SLUG, "provider"),
    "model": _text(_MODEL, "model"),
    "input_tokens": _tokens,
    "output_tokens": _tokens,
    "latency_ms": _millis,
    "feature": _label,
    "cache_read_input_tokens": _tokens,
    "cache_creation_input_tokens": _tokens,
    "cache_creation_1h_input_tokens": _tokens,
    "reasoning_output_tokens": _tokens,
    "input_audio_tokens": _tokens,
    "cache_read_audio_tokens": _tokens,
    "output_audio_tokens": _tokens,
    "input_image_tokens": _tokens,
    "output_image_tokens": _tokens,
    "input_video_tokens": _tokens,
    "web_searches": _tokens,
    "tool_calls_billed": _tokens,
    "search_units": _tokens,
    "characters": _tokens,
    "audio_ms": _millis,
    "images": _tokens,
    "video_ms": _millis,
    "requests_billed": _tokens,
    "attempts": _tokens,
    "ttft_ms": _millis,
    "reported_cost_nanousd": _count(MAX_NANOUSD),
    "operation": Field(lambda v: v in OPERATIONS, "one of " + ", ".join(OPERATIONS), "enum"),
    "service_tier": _text(_SLUG, "enum"),
    "region": _text(_REGION, "enum"),
    "streamed": _flag,
    "partial": _flag,
    "estimated": _flag,
    "usage_missing": _flag,
    "user": _label,
    "session": _label,
    "agent": _label,
    "parent_agent": _label,
    "team": _label,
    "project": _label,
    "request": _label,
    "tags": Field(
        _tags_fit,
        "an object of at most %d keys matching %s, each with text matching %s"
        % (MAX_TAGS, _TAG_KEY.pattern.replace("\\Z", ""), _LABEL.pattern.replace("\\Z", "")),
        "tags",
    ),
}

#: (place in `Usage`, key, largest value) of each count. The first two and the last are wholes, of which 0 is an answer.
_COUNTS = tuple((at, key, FIELDS[key].most) for at, key in enumerate(Usage._fields))
_WHOLES = (*_COUNTS[:2], _COUNTS[-1])
#: what `build` takes in `more` and may take as it is; tags are copied, because they are the caller's own
_MORE = {key: field for key, field in FIELDS.items() if key not in ("provider", "model", "tags")}
LABELS = ("user", "session", "agent", "parent_agent", "team", "project", "request", "tags")
REQUIRED = ("provider", "model")
#: how a value that fits is written, by the kind of its key. No pattern lets a quote, a backslash, a percent sign or a
#: control character through, so that text stands in JSON as it is.
_JSON = {"int": "%d", "flag": "true%.0s"}
#: shapes that are remembered, and texts of each: a program has few, unless it labels each call with another name
MOST_SHAPES, MOST_TEXTS = 256, 256

Receipt = Dict[str, Any]


class Made(Receipt):
    """A receipt that fits the list, as it was built, with its JSON. Who changes one makes a `dict` of it before."""

    __slots__ = ("text",)
    text: str


class Problem(NamedTuple):
    """Why a receipt is refused: the key and what is wrong with its value."""

    field: str
    error: str


def replacement(value: str, salt: str = "") -> str:
    """A stand-in for a text that does not fit: tells two values apart and says nothing about either."""
    import hashlib

    digest = hashlib.sha256(("%s\0%s" % (salt, value)).encode("utf-8", "surrogatepass"))
    return "replaced-" + digest.hexdigest()[:10]


def clean_label(value: object, salt: str = "") -> Tuple[Optional[str], bool]:
    """`(text that fits, was it replaced?)`; `(None, False)` for None and for an empty text."""
    if value is None or value == "":
        return None, False
    text = value if type(value) is str else str(value)
    if _LABEL.match(text):
        return text, False
    return replacement(text, salt), True


def build(
    provider: str,
    model: Optional[str],
    usage: Optional[Usage],
    more: Mapping[str, Any],
    salt: str = "",
) -> Tuple[Receipt, int]:
    """A receipt that fits the schema, and how many values were replaced or left out to make it fit.

    `more` holds any further keys of `FIELDS` (labels, flags, latency); None and False are left out.
    A model that does not fit its pattern becomes a hash; a count out of range is left out.
    """
    receipt = Made(provider=provider, model=model or "unknown")
    if usage is not None:
        receipt.update(compress(zip(Usage._fields, usage), usage))  # what is 0 or None says nothing, but for a whole
        if 0 in (usage[0], usage[1], usage[-1]):
            receipt.update((key, usage[at]) for at, key, _ in _WHOLES if usage[at] == 0)
    receipt.update(more)
    # Nearly always everything fits, and this says so in one look.
    text = written(receipt)
    if text is not None and "provider" not in more and "model" not in more:
        receipt.text = text
        return receipt, 0
    return _cleaned(provider, model, usage, more, salt)


def _cleaned(
    provider: str, model: Optional[str], usage: Optional[Usage], more: Mapping[str, Any], salt: str
) -> Tuple[Receipt, int]:
    """`build`, value by value."""
    receipt: Receipt = {"provider": provider if _SLUG.match(provider) else "custom"}
    changed = 0 if receipt["provider"] == provider else 1
    if not model:
        receipt["model"] = "unknown"
    elif _MODEL.match(model):
        receipt["model"] = model
    else:
        receipt["model"] = replacement(model, salt)
        changed += 1
    if usage is not None:
        for at, key, most in (*_WHOLES, *compress(_COUNTS[2:-1], usage[2:-1])):
            count = usage[at]
            if type(count) is int and 0 <= count <= most:
                receipt[key] = count
            elif count is not None:
                changed += 1
    for key, value in more.items():
        if value is None or value is False:
            continue
        field = _MORE.get(key)
        if field is not None and field.fits(value):
            receipt[key] = value
        else:
            changed += _replaced(receipt, key, field, value, salt)
    return receipt, changed


def _replaced(receipt: Receipt, key: str, field: Optional[Field], value: Any, salt: str) -> int:
    """Put a label or tags into the receipt as far as they fit; how much was replaced or left out."""
    if key == "tags":
        tags, changed = _clean_tags(value, salt)
        if tags:
            receipt[key] = tags
        return changed
    if field is None or field.kind != "label":
        return 1
    text, replaced = clean_label(value, salt)
    if text is not None:
        receipt[key] = text
    return int(replaced)


def _clean_tags(value: Any, salt: str) -> Tuple[Dict[str, str], int]:
    tags: Dict[str, str] = {}
    changed = 0
    if not isinstance(value, dict):
        return tags, 1
    for key, item in value.items():
        if len(tags) >= MAX_TAGS or type(key) is not str or not _TAG_KEY.match(key):
            changed += 1
            continue
        text, replaced = clean_label(item, salt)
        if text is not None:
            tags[key] = text
        changed += replaced
    return tags, changed


def core(receipt: Receipt) -> Receipt:
    """The receipt cut down to the six keys, for `AICG_RECEIPT=core`."""
    return {key: receipt[key] for key in CORE if key in receipt}


def _tags_text(tags: Dict[str, str]) -> str:
    return '"tags":{%s}' % ",".join(['"%s":"%s"' % tag for tag in tags.items()])


_WRITTEN: Dict[str, Tuple[Callable[[Any], bool], Callable[[Any], str]]] = {
    key: (field.fits, ('"%s":%s' % (key, _JSON.get(field.kind, '"%s"'))).__mod__) for key, field in FIELDS.items()
}
_WRITTEN["tags"] = (FIELDS["tags"].fits, _tags_text)


class _Shape:
    """Receipts with the same keys: their text for each set of names in them, to be filled in with their numbers.

    A program makes the same few again and again. So, for every receipt on the caller's thread, four calls of C take the
    place of three for each of its values.
    """

    __slots__ = ("types", "names", "numbers", "texts", "_keys")

    def __init__(self, keys: Tuple[str, ...], types: Tuple[type, ...], names: List[int], numbers: List[int]) -> None:
        self.types = types
        #: values → those that are texts or flags, and those that are numbers
        self.names: Callable[[Tuple[Any, ...]], Tuple[Any, ...]] = itemgetter(*names)
        self.numbers: Callable[[Tuple[Any, ...]], Tuple[Any, ...]] = itemgetter(*numbers)
        #: names → the JSON, with a place for each number
        self.texts: Dict[Tuple[Any, ...], str] = {}
        self._keys = keys

    def learn(self, values: Tuple[Any, ...]) -> Optional[str]:
        """The text for the names among these values; None when one does not fit its key."""
        parts = []
        for key, value in zip(self._keys, values):
            fits, write = _WRITTEN[key]
            if FIELDS[key].kind == "int":
                parts.append('"%s":%%d' % key)
            elif fits(value):
                parts.append(write(value))
            else:
                return None
        if len(self.texts) >= MOST_TEXTS:
            self.texts.clear()
        text = self.texts[self.names(values)] = "{%s}" % ",".join(parts)
        return text


_TYPES = {"int": int, "flag": bool}
_shapes: Dict[Tuple[str, ...], _Shape] = {}


def _shape(keys: Tuple[str, ...]) -> Optional[_Shape]:
    """The shape of receipts with these keys; None for keys that are outside the list, or that need a look at each."""
    kinds = [FIELDS[key].kind for key in keys if key in FIELDS]
    numbers = [at for at, kind in enumerate(kinds) if kind == "int"]
    names = [at for at, kind in enumerate(kinds) if kind != "int"]
    # `itemgetter` gives tuples from two on.
    if len(kinds) < len(keys) or "tags" in kinds or len(numbers) < 2 or len(names) < 2:
        return None
    if len(_shapes) >= MOST_SHAPES:
        _shapes.clear()
    shape = _shapes[keys] = _Shape(keys, tuple(_TYPES.get(kind, str) for kind in kinds), names, numbers)
    return shape


def written(receipt: Receipt) -> Optional[str]:
    """The JSON of a receipt whose keys and values all fit the list; None when only a closer look tells."""
    keys = tuple(receipt)
    shape = _shapes.get(keys) or _shape(keys)
    if shape is None:
        return None
    values = tuple(receipt.values())
    if tuple(map(type, values)) != shape.types:
        return None
    text = shape.texts.get(shape.names(values)) or shape.learn(values)
    numbers = shape.numbers(values)
    if text is None or min(numbers) < 0 or max(numbers) > MAX_TOKENS:
        return None
    return text % numbers


def template(made: Made) -> Tuple[str, Tuple[str, ...]]:
    """The JSON of a receipt with a place for each number, and the keys of these, in their order."""
    numbers = tuple(key for key in made if FIELDS[key].kind == "int")
    parts = ['"%s":%%d' % key if key in numbers else _WRITTEN[key][1](value) for key, value in made.items()]
    return "{%s}" % ",".join(parts), numbers


def encode(receipt: Receipt) -> bytes:
    """Compact JSON, written from the list: a key outside `FIELDS`, or a value that does not fit, is not written."""
    text = receipt.text if type(receipt) is Made else written(receipt)
    if text is not None:
        return text.encode()
    parts = []
    for key, value in receipt.items():
        row = _WRITTEN.get(key)
        if row is not None and row[0](value):
            parts.append(row[1](value))
    return ("{%s}" % ",".join(parts)).encode()


def check(value: Any) -> List[Problem]:
    """Everything that is wrong with a receipt from outside; empty when it may be stored."""
    if not isinstance(value, dict):
        return [Problem("", "must be an object, not %s" % type(value).__name__)]
    problems = [Problem(key, "is required") for key in REQUIRED if key not in value]
    for key, item in value.items():
        field = FIELDS.get(key)
        if field is None:
            problems.append(Problem(str(key)[:64], "is not a key of a receipt"))
        elif not field.fits(item):
            problems.append(Problem(key, "must be " + field.expects))
    return problems
