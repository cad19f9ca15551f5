"""From a request to its answer: steering, routing, errors, the control paths. No sockets.

Owns `App`. Both HTTP versions ask it, so they cannot differ in what is said or billed.
"""

from __future__ import annotations

import itertools
import json
from typing import Any, Dict, Iterator, Optional

from aicostguard.simulator import routes
from aicostguard.simulator.behaviour import BadBehaviour, Behaviour, Steering
from aicostguard.simulator.call import Call, Refused, Reply, Request, Store, dumps, sse
from aicostguard.simulator.count import Count, Exchange
from aicostguard.simulator.formats import eventstream
from aicostguard.simulator.formats.misc import error_body
from aicostguard.usage import Usage

#: marks the second request of a redirect, so that it is not redirected again
REDIRECTED = "sim-redirected=1"


class App:
    """One simulator's answers; `answer` runs on one thread, the count may be read from any."""

    def __init__(self) -> None:
        self.count = Count()
        self.steering = Steering()
        self.store = Store()

    def answer(self, request: Request) -> Reply:
        """The reply to one request; 400 for what cannot be answered. What it raises is a mistake of ours."""
        if request.path.startswith("/__sim/"):
            return self._control(request)
        try:
            reply = self._answer(request)
        except (Refused, BadBehaviour) as error:
            reply = Reply(400, body=dumps(error_body(request.provider, "", 400, "simulator: %s" % error)))
        self.count.saw(
            Exchange(
                request.provider,
                request.method,
                request.target,
                request.raw_headers,
                request.body,
                reply.status,
                request.http_version,
            )
        )
        return reply

    def _answer(self, request: Request) -> Reply:
        headers = request.headers
        found = routes.find(request.provider, request.method, request.path)
        if found is not None and found.route.format in ("warming", "models"):
            behaviour = Behaviour()  # what a client does by itself does not use up the script
        else:
            key = (headers.get("idempotency-key"), headers.get("x-sim-tag"), request.path, request.body)
            behaviour = self.steering.choose(headers.get("x-sim"), key)
        if behaviour.redirect is not None and REDIRECTED not in request.query:
            query = request.query + "&" + REDIRECTED if request.query else REDIRECTED
            location = "%s?%s" % (behaviour.redirect or request.path, query)
            return Reply(307, "text/plain", headers=[("location", location)], behaviour=behaviour)
        fmt = found.route.format if found is not None else ""
        if behaviour.status >= 300:
            return self._error(request, behaviour, fmt)
        if behaviour.body is not None:
            return self._verbatim(request, behaviour, fmt)
        if found is None:
            message = "simulator: %s has no %s %s" % (request.provider, request.method, request.path)
            return Reply(404, body=dumps(error_body(request.provider, "", 404, message)), behaviour=behaviour)
        reply = found.route.handler(Call(request, behaviour, found.params, fmt, self.store))
        if behaviour.error is not None:
            if reply.events is None:  # an error inside a 200, as Azure does
                return Reply(200, body=dumps(behaviour.error), behaviour=behaviour)
            reply = reply._replace(events=_broken(reply, behaviour.error, fmt), broken=True)
        if behaviour.status != 200 and reply.status == 200:
            reply = reply._replace(status=behaviour.status)
        extra = [*reply.headers, ("x-request-id", "req_sim"), *behaviour.headers.items()]
        return reply._replace(behaviour=behaviour, headers=extra)

    def _error(self, request: Request, behaviour: Behaviour, fmt: str) -> Reply:
        value = behaviour.error
        if behaviour.body is not None:
            body = behaviour.body
        elif value is None:
            body = dumps(error_body(request.provider, fmt, behaviour.status, "simulated error"))
        else:
            body = dumps(value)
        headers = list(behaviour.headers.items())
        if behaviour.retry_after is not None:
            headers.append(("retry-after", behaviour.retry_after))
        return Reply(behaviour.status, body=body, headers=headers, behaviour=behaviour)

    def _verbatim(self, request: Request, behaviour: Behaviour, fmt: str) -> Reply:
        headers = {key.lower(): value for key, value in behaviour.headers.items()}
        content_type = headers.pop("content-type", "application/json")
        bills = []
        if behaviour.usage is not None:
            call = Call(request._replace(body=b""), behaviour, {}, fmt, self.store)
            bills = [call.bill(Usage(**behaviour.usage), behaviour.model, content_type.startswith("text/event-stream"))]
        body = behaviour.body or b""
        return Reply(200, content_type, body, bills=bills, headers=list(headers.items()), behaviour=behaviour)

    def _control(self, request: Request) -> Reply:
        name = (request.method, request.path[len("/__sim/") :])
        try:
            if name == ("GET", "billed"):
                rows = [{**row._asdict(), "usage": _shown(row.usage)} for row in self.count.billed()]
                return Reply(body=dumps({"billed": rows, "lost": self.count.lost_billed}))
            if name == ("POST", "behaviour"):
                value = json.loads(request.body or b"{}")
                if isinstance(value, list):
                    self.steering.script(value)
                else:
                    self.steering.set_default(value)
                return Reply(body=b"{}")
            if name == ("POST", "reset"):
                self.count.clear()
                self.steering.reset()
                return Reply(body=b"{}")
        except (ValueError, AttributeError, TypeError) as error:
            return Reply(400, body=dumps({"error": str(error)}))
        return Reply(404, body=dumps({"error": "known: GET billed, POST behaviour, POST reset"}))


def _shown(usage: Optional[Usage]) -> Optional[Dict[str, int]]:
    return None if usage is None else {k: v for k, v in usage._asdict().items() if v is not None}


def _broken(reply: Reply, error: Any, fmt: str) -> Iterator[bytes]:
    """The stream breaks off after two events with an error event, as when a provider is overloaded halfway."""
    yield from itertools.islice(reply.events or (), 2)
    if reply.content_type == eventstream.TYPE:
        yield eventstream.event("modelStreamErrorException", dumps(error), "exception")
        return
    yield sse(error, "error" if fmt in ("messages", "responses") else None)
