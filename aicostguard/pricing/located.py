"""JSON or YAML text as values that know their line, so that a mistake in a file can be pointed at.

Owns the reading of both into one shape. Numbers stay the text they were written as: a price of 0.1 is never a binary
float. JSON is read here, because the standard library's reader tells no lines; YAML by PyYAML where it is installed.
If a line is wrong, a person looks for a mistake in the wrong place.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

#: deeper than any file of ours, and far from Python's own limit
_DEEPEST = 50
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STRINGS = JSONDecoder()
_WORDS = {"true": True, "false": False, "null": None}


class Number(str):
    """A number as it was written."""

    __slots__ = ()


class Located(NamedTuple):
    """A value and the line it begins in. `value`: a dict of `Located`, a list of them, text, `Number`, bool or None."""

    value: Any
    line: int


class Unreadable(ValueError):
    """Text that is not what it should be; `line` is where."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def read(text: str, *, yaml: bool) -> Located:
    """The value of a file's text. Raises `Unreadable`, also when YAML is asked for and PyYAML is not there."""
    return _yaml(text) if yaml else _Json(text).whole()


class _Json:
    """RFC 8259, one value, every name once in its object."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.ends: List[int] = [match.start() for match in re.finditer("\n", text)]

    def line(self, at: int) -> int:
        from bisect import bisect_left

        return bisect_left(self.ends, at) + 1

    def whole(self) -> Located:
        value, at = self.value(self.space(0), 0)
        if self.space(at) != len(self.text):
            raise self.wrong(self.space(at), "more text behind the end of the value")
        return value

    def wrong(self, at: int, text: str) -> Unreadable:
        return Unreadable(self.line(at), "not JSON: " + text)

    def space(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        assert match is not None
        return match.end()

    def value(self, at: int, depth: int) -> Tuple[Located, int]:
        if depth > _DEEPEST:
            raise self.wrong(at, "nested more than %d deep" % _DEEPEST)
        line, first = self.line(at), self.text[at : at + 1]
        if first == "{":
            return self.members(at, line, depth)
        if first == "[":
            return self.items(at, line, depth)
        if first == '"':
            string, end = self.string(at)
            return Located(string, line), end
        for word, meaning in _WORDS.items():
            if self.text.startswith(word, at):
                return Located(meaning, line), at + len(word)
        match = _NUMBER.match(self.text, at)
        if match is None:
            raise self.wrong(at, "a value is expected" + (", not %r" % first if first else ", but the text ends"))
        return Located(Number(match.group()), line), match.end()

    def string(self, at: int) -> Tuple[str, int]:
        try:
            string, end = _STRINGS.raw_decode(self.text, at)
            return str(string), end
        except JSONDecodeError as error:
            raise self.wrong(error.pos, error.msg) from None

    def members(self, at: int, line: int, depth: int) -> Tuple[Located, int]:
        found: Dict[str, Located] = {}
        at = self.space(at + 1)
        if self.text[at : at + 1] == "}":
            return Located(found, line), at + 1
        while True:
            if self.text[at : at + 1] != '"':
                raise self.wrong(at, "a name in double quotes is expected")
            start = at
            name, at = self.string(at)
            if name in found:
                raise self.wrong(start, "%r stands twice" % name)
            at = self.space(at)
            if self.text[at : at + 1] != ":":
                raise self.wrong(at, "a colon is expected behind %r" % name)
            found[name], at = self.value(self.space(at + 1), depth + 1)
            # where a key stands is where a person looks
            found[name] = found[name]._replace(line=self.line(start))
            at, more = self.next(at, "}")
            if not more:
                return Located(found, line), at

    def items(self, at: int, line: int, depth: int) -> Tuple[Located, int]:
        found: List[Located] = []
        at = self.space(at + 1)
        if self.text[at : at + 1] == "]":
            return Located(found, line), at + 1
        while True:
            item, at = self.value(at, depth + 1)
            found.append(item)
            at, more = self.next(at, "]")
            if not more:
                return Located(found, line), at

    def next(self, at: int, end: str) -> Tuple[int, bool]:
        at = self.space(at)
        mark = self.text[at : at + 1]
        if mark not in (",", end) or not mark:
            raise self.wrong(at, "a comma or %s is expected" % end)
        return (self.space(at + 1), True) if mark == "," else (at + 1, False)


def _yaml(text: str) -> Located:
    try:
        import importlib

        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise Unreadable(
            1, "YAML needs PyYAML (pip install 'aicostguard[guard]'); the same file can be written as JSON"
        ) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return Located({}, 1) if root is None else _node(root, 0)
    except yaml.YAMLError as error:
        mark: Optional[Any] = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        raise Unreadable(mark.line + 1 if mark is not None else 1, "not YAML: %s" % said) from None


def _node(node: Any, depth: int) -> Located:
    line = node.start_mark.line + 1
    if depth > _DEEPEST:
        raise Unreadable(line, "nested more than %d deep" % _DEEPEST)
    if node.id == "mapping":
        found: Dict[str, Located] = {}
        for key, value in node.value:
            if key.id != "scalar":
                raise Unreadable(key.start_mark.line + 1, "a name is expected")
            if key.value in found:
                raise Unreadable(key.start_mark.line + 1, "%r stands twice" % key.value)
            found[key.value] = _node(value, depth + 1)._replace(line=key.start_mark.line + 1)
        return Located(found, line)
    if node.id == "sequence":
        return Located([_node(item, depth + 1) for item in node.value], line)
    return Located(_scalar(node.tag.rpartition(":")[2], node.value), line)


def _scalar(tag: str, text: str) -> Union[str, bool, None]:
    if tag in ("int", "float"):
        return Number(text)
    if tag == "bool":
        return text.lower() in ("true", "yes", "on")
    return None if tag == "null" else text
