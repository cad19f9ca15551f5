"""A file of YAML or JSON as nodes that know their line, with scalars as the text they were written in.

Owns reading, and what makes a file unreadable. YAML is read by PyYAML (extra `guard`); JSON needs nothing. Scalars stay
text, because a float would have lost the amount that was written. Knows no key and no rule.
"""

from __future__ import annotations

import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, List, NamedTuple, Optional, Tuple

#: bytes: a policy is written by hand
MOST = 1_000_000
_DEEP = 20
_BLANK = " \t\r\n"


class Unreadable(ValueError):
    """No file, no text, no YAML. `line` is 1 for the first, None where there is none."""

    def __init__(self, message: str, line: Optional[int] = None) -> None:
        super().__init__(message)
        self.line = line


class Node(NamedTuple):
    """`kind` is `map` (value: pairs of nodes), `list` (value: nodes), `null`, or `scalar` (value: text as written)."""

    kind: str
    value: Any
    line: int


def load(path: str) -> Node:
    """The nodes of a file. Raises Unreadable."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise Unreadable("cannot be read (%s)" % (error.strerror or type(error).__name__)) from None
    except UnicodeDecodeError as error:
        raise Unreadable("is not UTF-8: save it as UTF-8", data[: error.start].count(b"\n") + 1) from None
    if len(data) > MOST:
        raise Unreadable("is larger than %d bytes, and no policy is" % MOST)
    return _Json(text).whole() if path.endswith(".json") else _yaml(text)


def _yaml(text: str) -> Node:
    try:
        import yaml
    except ImportError:
        raise Unreadable(
            "needs PyYAML: pip install 'aicostguard[guard]', or write the policy as a .json file"
        ) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or "no YAML"
        raise Unreadable(str(said), mark.line + 1 if mark else None) from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    return Node("null", None, 1) if root is None else _of_yaml(root, yaml, 0)


def _of_yaml(node: Any, yaml: Any, depth: int) -> Node:
    line = node.start_mark.line + 1
    if depth > _DEEP:  # also an alias within itself
        raise Unreadable("is nested too deeply", line)
    if isinstance(node, yaml.MappingNode):
        pairs = [(_of_yaml(key, yaml, depth + 1), _of_yaml(value, yaml, depth + 1)) for key, value in node.value]
        return Node("map", tuple(pairs), line)
    if isinstance(node, yaml.SequenceNode):
        return Node("list", tuple(_of_yaml(item, yaml, depth + 1) for item in node.value), line)
    if node.tag == "tag:yaml.org,2002:null":
        return Node("null", None, line)
    return Node("scalar", node.value, line)


class _Json:
    """JSON by https://www.rfc-editor.org/rfc/rfc8259, read by hand because the lines count."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def whole(self) -> Node:
        found = self.node(0)
        if self.peek():
            self.wrong("more text after the end of the policy")
        return found

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1

    def wrong(self, message: str) -> Any:
        raise Unreadable(message, self.line)

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in _BLANK:
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, *wanted: str) -> str:
        found = self.peek()
        if found not in wanted:
            self.wrong("expected %s, found %s" % (" or ".join(wanted), repr(found) if found else "the end"))
        self.at += 1
        return found

    def string(self) -> Node:
        line = self.line
        self.take('"')
        try:
            value, self.at = scanstring(self.text, self.at, True)
        except json.JSONDecodeError as error:
            raise Unreadable(error.msg, error.lineno) from None
        return Node("scalar", value, line)

    def node(self, depth: int) -> Node:
        first, line = self.peek(), self.line
        if depth > _DEEP:
            self.wrong("is nested too deeply")
        if first == "{":
            return Node("map", tuple(self.members(depth)), line)
        if first == "[":
            return Node("list", tuple(self.items(depth)), line)
        if first == '"':
            return self.string()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _BLANK + ',:]}"':
            self.at += 1
        word = self.text[start : self.at]
        if not word:
            self.wrong("expected a value, found %s" % (repr(first) if first else "the end"))
        try:
            json.loads(word)
        except ValueError:
            self.wrong("%s is no JSON: text stands in double quotes" % word)
        return Node("null", None, line) if word == "null" else Node("scalar", word, line)

    def members(self, depth: int) -> List[Tuple[Node, Node]]:
        self.take("{")
        found: List[Tuple[Node, Node]] = []
        if self.peek() == "}":
            self.at += 1
            return found
        while True:
            self.peek()
            key = self.string()
            self.take(":")
            found.append((key, self.node(depth + 1)))
            if self.take(",", "}") == "}":
                return found

    def items(self, depth: int) -> List[Node]:
        self.take("[")
        found: List[Node] = []
        if self.peek() == "]":
            self.at += 1
            return found
        while True:
            found.append(self.node(depth + 1))
            if self.take(",", "]") == "]":
                return found
