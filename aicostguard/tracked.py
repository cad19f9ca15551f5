"""`TrackedClient`: an SDK's client whose calls are written down in a file of their own, and that file as SQL.

Owns whose receipt is whose: a call of a tracked client carries a mark where its request label stands, which is taken
off again before the receipt goes anywhere. Receipts then take the agent's usual way (queue, spool, `sqlite:///` sink)
into the client's file, and what `AICG_URL` names still gets them, too. Nothing here wraps a response, and nothing is
written on the caller's thread but the spool's few bytes. If it fails, a fault is counted and the call goes on.
"""

from __future__ import annotations

import atexit
import inspect
import itertools
import os
import sqlite3
import threading
import weakref
from typing import Any
from urllib.parse import quote

from aicostguard import auto, config, context, ledger
from aicostguard.health import health
from aicostguard.ledger.errors import LedgerError
from aicostguard.receipt import Receipt, clean_label

#: what a mark begins with; the book's number and the user's own request label follow
MARK = "aicg.tracked:"
#: characters of a label
MOST_LABEL = 128
#: seconds between two looks into the inbox while calls come in, and the most a reader waits for what is under way
EVERY, PATIENCE = 0.5, 10.0

#: books by number. Weak: a client that nobody has any more is closed.
_books: weakref.WeakValueDictionary[str, Book] = weakref.WeakValueDictionary()
_numbers = itertools.count()


class TrackedClient:
    """Makes calls, and keeps what they cost in the ledger file `db_path`.

    `kwargs` are for `anthropic.Anthropic` (`api_key`, `base_url`, …). `client` is another SDK's client instead: one
    with `messages.create` or `chat.completions.create` (openai and those like it), sync or async.
    """

    def __init__(self, db_path: str | os.PathLike[str] = "ai_costs.db", *, client: Any = None, **kwargs: Any) -> None:
        if client is not None and kwargs:
            raise TypeError(f"client: it is built already, so {', '.join(sorted(kwargs))} cannot be given to it")
        self.client = _anthropic(kwargs) if client is None else client
        self._create = _method(self.client)
        self._book = Book(os.path.abspath(os.fspath(db_path)))
        # Also when it is simply dropped: the sender's thread would stay for the life of the program.
        self._end = weakref.finalize(self, self._book.close)
        self._end.atexit = False

    @property
    def db(self) -> sqlite3.Connection:
        """The file, read only, with the view `requests`: a query sees every call that has ended before it."""
        return self._book.connection()

    def create(self, model: str, messages: Any, feature: str | None = None, **kwargs: Any) -> Any:
        """The SDK's own call, and its response as it is; a coroutine where the client is an async one.

        `feature` says what the call is for; without one, `aicostguard.feature` around it does, else it is `default`.
        """
        with self._book.tracking(feature):
            answer = self._create(model=model, messages=messages, **kwargs)
        return self._awaited(answer, feature) if inspect.iscoroutine(answer) else answer

    async def _awaited(self, answer: Any, feature: str | None) -> Any:
        with self._book.tracking(feature):
            return await answer

    def close(self) -> None:
        """Write down what is under way and close the file. Done by itself at the program's end."""
        self._end()

    def __enter__(self) -> TrackedClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Connection(sqlite3.Connection):
    """A connection that takes in what was delivered before it looks."""

    book: Book | None = None

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        if self.book is not None:
            self.book.settle()
        return super().cursor(*args, **kwargs)

    def execute(self, *args: Any) -> sqlite3.Cursor:
        return self.cursor().execute(*args)  # type: ignore[no-any-return]


class Book:
    """One file, the way of receipts into it, and who reads it. Safe from several threads, and in a forked child."""

    def __init__(self, path: str) -> None:
        from aicostguard.delivery import Delivery

        ledger.open_ledger(path).close()  # a file that cannot be used is said now
        self.path = path
        settings = config.load(os.environ)._replace(url="sqlite:///" + path, key=None, disabled=False)
        self._delivery = Delivery(settings)
        self._number = str(next(_numbers))
        _books[self._number] = self
        self._fresh()
        # Before threads can no longer be started, which atexit is too late for.
        register = getattr(threading, "_register_atexit", atexit.register)
        register(_at_end, weakref.ref(self))

    def _fresh(self) -> None:
        """As this process: what a fork leaves of locks, threads and connections is its parent's."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        #: something was delivered and is not known to be in the file
        self._pending = False
        self._thread: threading.Thread | None = None
        self._news, self._closed = threading.Event(), threading.Event()
        self._connection: Connection | None = None

    def _here(self) -> None:
        if self._pid != os.getpid():
            # Never closed: that would take the parent's file locks away, or write into its file.
            _inherited.append(self._connection)
            self._fresh()

    def tracking(self, feature: str | None) -> context.Scope:
        """What is said of the calls inside."""
        auto.divert(_route)
        now = context.current()
        own = clean_label(now.get("request"))[0] or ""
        mark = f"{MARK}{self._number}:"
        if len(own) > MOST_LABEL - len(mark):
            health.note("tracked_request_cut")  # it has no room beside the mark: said, for it is another label then
        return context.Scope(
            {
                "feature": now.get("feature") or "default" if feature is None else str(feature),
                "request": (mark + own)[:MOST_LABEL],
            }
        )

    def take(self, receipt: Receipt) -> None:
        """A receipt of ours. Never blocks."""
        self._here()
        self._delivery.submit(receipt)
        self._pending = True  # after it is delivered, so that whoever clears it has it in the flush that follows
        self._news.set()
        if self._thread is None:
            arguments = (weakref.ref(self), self._news)
            self._thread = threading.Thread(target=_settle_often, args=arguments, name="aicg-tracked", daemon=True)
            self._thread.start()

    def settle(self) -> None:
        """Have everything that has come in the file, priced. Says so, once, where it cannot be done."""
        self._here()
        with self._lock:
            if not self._pending:
                return
            self._pending = False
            problem = "" if self._delivery.flush(PATIENCE) else "the file did not take them in time"
            try:
                ledger.open_ledger(self.path).close()
            except (LedgerError, RuntimeError) as error:  # the latter: the interpreter ends
                problem = str(error)
            if problem:
                self._pending = True
                health.warn("tracked", f"aicostguard: the latest calls are not yet in {self.path}: {problem}")

    def connection(self) -> Connection:
        """The one connection for reading."""
        self._here()
        with self._lock:
            if self._connection is None:
                place = f"file:{quote(self.path)}?mode=ro"
                made = sqlite3.connect(place, uri=True, check_same_thread=False, factory=Connection)
                made.book = self
                self._connection = made
            return self._connection

    def close(self) -> None:
        """Take in what is under way; no more is read or delivered afterwards."""
        self._here()
        self.settle()
        self._closed.set()
        self._news.set()
        self._delivery.shutdown(PATIENCE)
        with self._lock:
            if self._connection is not None:
                self._connection.book = None
                self._connection.close()
                self._connection = None


_inherited: list[Any] = []


def _at_end(reference: weakref.ref[Book]) -> None:
    book = reference()
    if book is not None:
        book.settle()


def _settle_often(reference: weakref.ref[Book], news: threading.Event) -> None:
    """Take in what comes, so that others who read the file see it, too. Ends with the book."""
    while True:
        news.wait()
        news.clear()
        book = reference()
        if book is None or book._closed.is_set():
            return
        try:
            book.settle()
        except Exception as error:
            health.fault("tracked.settle", error)
        closed = book._closed
        del book
        closed.wait(EVERY)


def _route(receipt: Receipt) -> Receipt:
    """Give a receipt with a mark to its book; the receipt as it would be without."""
    request = receipt.get("request")
    if not (isinstance(request, str) and request.startswith(MARK)):
        return receipt
    number, _, own = request[len(MARK) :].partition(":")
    plain = {key: value for key, value in receipt.items() if key != "request"}
    if own:
        plain["request"] = own
    book = _books.get(number)
    if book is not None:
        try:
            book.take(plain)
        except Exception as error:
            health.fault("tracked.take", error)
    return plain


def _method(client: Any) -> Any:
    """What makes a call."""
    for names in (("messages",), ("chat", "completions")):
        owner = client
        for name in names:
            owner = getattr(owner, name, None)
        method = getattr(owner, "create", None)
        if callable(method):
            return method
    raise TypeError(f"client: {type(client).__name__} has neither messages.create nor chat.completions.create")


def _anthropic(kwargs: dict[str, Any]) -> Any:
    try:
        import anthropic
    except ImportError as error:
        raise ImportError(
            "TrackedClient needs the SDK: pip install anthropic, or give it another with client="
        ) from error
    return anthropic.Anthropic(**kwargs)
