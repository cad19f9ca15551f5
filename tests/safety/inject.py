"""Faults planted into our own functions, wherever they are referenced from.

Owns the search for functions that run in the host's path, and the replacement of a function's code by one that
raises. The code object is replaced, not a name: whoever has imported the function, closed over it or put it into a
table gets the planted fault. Functions that are made anew on each call are found in the code that makes them.
"""

from __future__ import annotations

import ast
import gc
import inspect
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Set, Tuple, Type

import aicostguard

ROOT = Path(aicostguard.__file__).parent
#: what runs inside a user's call; `health` is what catches, so it is the one thing that cannot fail
PARTS = ("capture", "metering", "delivery", "context.py", "receipt.py", "usage.py", "auto.py")
_PREFIXES = tuple(str(ROOT / part) for part in PARTS)


class Planted(Exception):
    """A fault that only a test can have caused. `raised` counts how often it came to that."""

    raised = 0

    def __init__(self) -> None:
        super().__init__("planted")
        Planted.raised += 1


def reached(run: Callable[[], Any]) -> Tuple[Any, Set[CodeType]]:
    """What `run` gives, and the code of every function of ours that it executes, in threads that it starts, too."""
    found: Set[CodeType] = set()

    def profile(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        # Bodies of modules and classes are not functions.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(_PREFIXES):
            found.add(code)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        result = run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return result, found


def of_file(path: Path) -> Iterator[CodeType]:
    """The code of every function that a file of ours defines, however deep; expressions in them are theirs."""
    waiting = [compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)]
    while waiting:
        for inner in waiting.pop().co_consts:
            if isinstance(inner, CodeType):
                waiting.append(inner)
                if inner.co_flags & inspect.CO_OPTIMIZED and not inner.co_name.startswith("<"):
                    yield inner


def name_of(code: CodeType) -> str:
    """`capture/tap.py:Tap.plain`, from the source, because 3.9 and 3.10 do not keep qualified names."""
    path = Path(code.co_filename)
    name = code.co_name
    if name.startswith("<"):
        name = "%s at line %d" % (name, code.co_firstlineno)
    else:
        name = _names(path).get(code.co_firstlineno, name)
    return "%s:%s" % (path.relative_to(ROOT).as_posix(), name)


_cache: Dict[Path, Dict[int, str]] = {}


def _names(path: Path) -> Dict[int, str]:
    if path not in _cache:
        names: Dict[int, str] = {}

        def walk(node: ast.AST, prefix: str) -> None:
            for child in ast.iter_child_nodes(node):
                inner = prefix
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    inner = prefix + child.name
                    line = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                    names[line] = inner
                    inner += "."
                walk(child, inner)

        walk(ast.parse(path.read_text(encoding="utf-8")), "")
        _cache[path] = names
    return _cache[path]


def guards(code: CodeType) -> bool:
    """Is this a function that cannot raise by its form?

    True when everything it calls stands inside `try … except Exception`, apart from `hasattr`, and `pop`, `clear` and
    `get` of lists and mappings. To make such a function raise is to make one of those raise that it calls, and each of
    these has its own turn. True, too, of one that does nothing at all.
    """
    if code.co_name.startswith("<"):  # a lambda or an expression
        return False
    tree = ast.parse(_source(code))
    function = next(node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    if all(map(_does_nothing, function.body)):
        return True
    covered: Set[ast.AST] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Try) and any(_catches(handler) for handler in node.handlers):
            for part in (*node.body, *node.handlers, *node.finalbody):
                covered.update(ast.walk(part))
    decorators = {inner for node in function.decorator_list for inner in ast.walk(node)}
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and n not in covered and n not in decorators]
    return bool(covered) and all(
        call.func.attr in ("pop", "clear", "get") if isinstance(call.func, ast.Attribute) else _is_hasattr(call)
        for call in calls
    )


def _does_nothing(statement: ast.stmt) -> bool:
    """Is this a docstring, or the return of a constant?"""
    return isinstance(statement, (ast.Expr, ast.Return)) and isinstance(statement.value, (ast.Constant, type(None)))


def _is_hasattr(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "hasattr"


def _catches(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.type, ast.Name) and handler.type.id == "Exception"


def _source(code: CodeType) -> str:
    lines, start = inspect.findsource(code)
    block = inspect.getblock(lines[start:])
    indent = len(block[0]) - len(block[0].lstrip())
    return "".join(line[indent:] if line.strip() else line for line in block)


def _raiser(code: CodeType, error: Type[BaseException]) -> CodeType:
    """Code with as many free variables as `code`, of its kind, that raises."""
    free = ["v%d" % i for i in range(len(code.co_freevars))]
    word = "async def" if code.co_flags & inspect.CO_COROUTINE else "def"
    lines = ["def make(%s):" % ", ".join(free), "    %s planted(*args, **kwargs):" % word]
    if free:
        lines.append("        %s" % ", ".join(free))
    lines.append("        raise 'PLANTED'")
    compiled = compile("\n".join(lines), code.co_filename, "exec")
    make = next(const for const in compiled.co_consts if isinstance(const, CodeType))
    planted = next(const for const in make.co_consts if isinstance(const, CodeType))
    consts = tuple(error if const == "PLANTED" else const for const in planted.co_consts)
    return planted.replace(co_consts=consts, co_name=code.co_name)


def _within(outer: CodeType, target: CodeType, new: CodeType) -> CodeType:
    """`outer` with `target` replaced among the functions that it makes; `outer` itself when it makes none such."""
    consts = tuple(
        (new if const is target else _within(const, target, new)) if isinstance(const, CodeType) else const
        for const in outer.co_consts
    )
    return outer if all(a is b for a, b in zip(consts, outer.co_consts)) else outer.replace(co_consts=consts)


def functions() -> List[FunctionType]:
    """Every function of ours that lives now, closures included."""
    gc.unfreeze()  # what was there before the file of tests
    return [
        thing
        for thing in gc.get_objects()
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(_PREFIXES)
    ]


@contextmanager
def planted(code: CodeType, among: Iterable[FunctionType], error: Type[BaseException] = Planted) -> Iterator[None]:
    """Inside, the function of this code raises `error` instead of doing its work. `among`: see `functions`."""
    new = _raiser(code, error)
    changed: List[Tuple[FunctionType, CodeType]] = []
    for function in among:
        before = function.__code__
        after = new if before is code else _within(before, code, new)
        if after is not before:
            changed.append((function, before))
            function.__code__ = after
    assert changed, "nothing refers to %s" % code
    try:
        yield
    finally:
        for function, before in changed:
            function.__code__ = before


def sleepless(limit: float, until: Callable[[], bool]) -> bool:
    """Wait for `until`, at most `limit` seconds; whether it came true."""
    end = time.monotonic() + limit
    while not until():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.005)
    return True
