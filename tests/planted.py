"""Faults that were planted to see a test fail: what somebody could break, and the test that would say so.

Each is a statement put at the beginning of one function of ours (or at the end of a module), as a table:
`scripts/faults` plants them one by one in a copy of the tree. A row for every id of the pitfalls A, B and E, and for
every promise of `tests/safety` (G16 to G21), whose rows are planted with every test run.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple


class Fault(NamedTuple):
    """`at`: "file.py:Class.method", or "file.py" for its end; `plant`: statements; `test`: what must fail then."""

    id: str
    what: str
    at: str
    plant: str
    test: str


_PIECES = "aicostguard/capture/pieces.py:"
_LOGICAL = "aicostguard/capture/entries/logical.py:"
_HTTPX = "aicostguard/capture/transports/httpx_like.py:"
_CALL = "aicostguard/capture/call.py:"
_CONTEXT = "aicostguard/context.py"
_METERING = "aicostguard/metering/"
_CAPTURE = "tests/capture/"
_DELIVERY = "aicostguard/delivery/"
_SENT = "tests/delivery/"

#: what the SDK gave, but a stream as a bare generator
_BARE = (
    "made = await original(self, *args, **kwargs)\n"
    "return made if not hasattr(made, '__aiter__') else (event async for event in made)"
)
_BARE_SYNC = (
    "made = original(self, *args, **kwargs)\n"
    "return made if not hasattr(made, '__next__') else (event for event in made)"
)
_SAFETY = "tests/safety/test_safety_"
_EVERY_CALL = "tests/safety/test_safety_cannot_break_calls.py::test_a_fault_in_any_function_changes_no_result"

FAULTS: Tuple[Fault, ...] = (
    Fault("A1", "an async stream comes back as a bare generator", _LOGICAL + "coroutine.request", _BARE,
          _CAPTURE + "test_stream_objects.py::test_openai_async"),
    Fault("A2", "a stream comes back without the SDK's helpers", _LOGICAL + "sync.request", _BARE_SYNC,
          _CAPTURE + "test_stream_objects.py::test_openai"),
    Fault("A3", "what is read of a stream is not looked at", _PIECES + "SyncPieces.__next__", "return self._next()",
          _CAPTURE + "test_left.py::test_the_target_of_with_is_read"),
    Fault("A4", "closing a stream does not reach the library's own", _HTTPX + "_streams.TappedStream.close", "return",
          _CAPTURE + "test_left.py::test_the_pool_is_empty_afterwards"),
    Fault("A5", "something that cannot be pickled hangs on the response", _HTTPX + "_Tapper.response",
          "response.of_ours = lambda: None", _CAPTURE + "test_untouched.py::test_copies_of_responses"),
    Fault("A6", "methods of every gRPC service are tapped", "aicostguard/capture/transports/grpc.py:_found",
          "return find('/xai_api.Chat/GetCompletion')",
          _CAPTURE + "test_rpc.py::test_methods_of_other_services_are_left_alone"),
    Fault("A7", "a cancellation becomes the end of the stream", _PIECES + "AsyncPieces.__anext__",
          "try:\n    return await self._inner.__anext__()\nexcept BaseException:\n    raise StopAsyncIteration",
          _CAPTURE + "test_passing.py::test_cancelled_in_the_middle"),
    Fault("A8", "a fault of ours goes on to the caller", "aicostguard/capture/patch.py:Hook.failed", "raise error",
          _EVERY_CALL + "[receipt.py]"),
    Fault("A9", "a stream is held until it is whole", _PIECES + "SyncPieces.__next__",
          "whole = b''.join(self._inner)\nif whole:\n    return whole",
          _CAPTURE + "test_passing.py::test_nothing_is_held_back"),
    Fault("A10", "the client object is taken to be whole", _LOGICAL + "sync.request", "self._client",
          _CAPTURE + "test_untouched.py::test_subclasses_that_skip_init"),
    Fault("A11", "leaving a scope puts back what was, wherever one is", _CONTEXT + ":_leave",
          "top = labelled.get()\nlabelled.set(None if top is None else top.parent)\nreturn",
          _CAPTURE + "test_context.py::test_leaving_in_another_context_changes_nothing_there"),
    Fault("A12", "calls are remembered", _CALL + "Call.__init__", "globals().setdefault('_calls', []).append(self)",
          _CAPTURE + "test_left.py::test_abandoned_streams_leave_nothing[httpx]"),
    Fault("A13", "what a hook raises ends the import", "aicostguard/capture/hooks.py:_hook",
          "if name in _rows:\n    import_module(_rows[name].installer).install(module, Hook(name))",
          _CAPTURE + "test_hooks.py::test_a_hook_that_raises_leaves_the_import_whole_and_is_reported"),
    Fault("A14", "the sender is whatever thread is there", "aicostguard/delivery/threads.py:start_thread",
          "import threading\n"
          "threading.Thread(target=function, args=arguments, daemon=True).start()\nreturn 0",
          "tests/delivery/test_green.py::test_calls_and_sends_work_in_any_order[agent,patch]"),
    Fault("A15", "a header of ours goes out with the request", _HTTPX + "_Tapper.begin",
          "request.headers['x-ours'] = '1'",
          _CAPTURE + "test_untouched.py::test_requests_are_the_same_bytes"),
    Fault("A16", "the import loads asyncio", "aicostguard/auto.py", "import asyncio",
          "tests/test_project/test_purity.py::test_the_import_loads_nothing_heavy"),
    Fault("A17", "only the library's own transport is seen", _HTTPX + "_sync_send.send",
          "if type(self._transport).__name__ != 'HTTPTransport':\n    return original(self, request, *args, **kwargs)",
          _CAPTURE + "test_routes.py::test_mock_transport"),
    Fault("A18", "an estimate is made where the call runs", "aicostguard/capture/estimating.py:Estimates.put",
          "_estimate(Job(receipt, kept, request))\n_deliver(receipt)\nreturn True",
          _CAPTURE + "test_estimates.py::test_never_on_the_callers_thread"),
    Fault("A19", "the walk keeps a frame", "aicostguard/capture/caller.py:infer",
          "globals().setdefault('_kept', []).append(sys._getframe(1))",
          _CAPTURE + "test_caller.py::test_the_walk_is_bounded_and_keeps_no_frame"),
    Fault("A20", "a body that can be read once is read by us", _HTTPX + "_Tapper.begin",
          "try:\n    b''.join(request.stream)\nexcept Exception:\n    pass",
          _CAPTURE + "test_untouched.py::test_what_can_be_read_once_is_read_by_the_callee"),
    Fault("A21", "an answer is taken to be as it should be", _CALL + "Call.read",
          "__import__('json').loads(body)['choices'][0]['message']['content']",
          _CAPTURE + "test_trouble.py::test_odd_answers"),
    # `Call.end` has a guard of its own beneath the tap's: both are gone.
    Fault("A22", "the end of a response is not guarded", "aicostguard/capture/tap.py:Tap.end",
          "held, self._held = self._held, None\n"
          "if held is not None and not self.decoding:\n    self._decode(held)\n"
          "if self.call._meter:\n    self.call._settle(self.call._meter.pop().finish(complete), 0.0)\n"
          "return", _EVERY_CALL + "[metering/meter.py]"),
    Fault("A23", "labels stay in force over a generator's yield", _CONTEXT + ":_generator",
          "def run(*args, **kwargs):\n    with scope:\n"
          "        return (yield from function(*args, **kwargs))\nreturn run",
          _CAPTURE + "test_context.py::test_a_generators_labels_do_not_leak_into_its_consumer"),
    Fault("B1", "transports do not know that they stand beneath another", _CONTEXT,
          "inside = type('Blind', (), {'get': lambda self: False, 'set': lambda self, value: None})()",
          _CAPTURE + "test_raw_streams.py::test_requests"),
    Fault("B2", "the framework's cache is empty", _CAPTURE + "test_counting.py:cached_chat",
          "return chat", _CAPTURE + "test_counting.py::test_an_answer_from_a_cache_is_not_billed"),
    Fault("B3", "each fetch of a response is billed", "aicostguard/capture/once.py:finished", "return readings",
          _CAPTURE + "test_counting.py::test_a_fetched_response_is_not_billed_again"),
    Fault("B4", "failures are billed", _CALL + "Call.read",
          "receipt_of(self, Reading(model='gpt-4o'), 0.0)\n"
          "self._emit({'provider': 'openai', 'model': 'gpt-4o', 'input_tokens': 1, 'output_tokens': 1})\nreturn",
          _CAPTURE + "test_counting.py::test_all_attempts_fail"),
    Fault("B5", "OpenAI's cached tokens are added to its input", _METERING + "openai.py:usage_of",
          "if type(raw) is dict and 'prompt_tokens' in raw:\n"
          "    more = (raw.get('prompt_tokens_details') or {}).get('cached_tokens') or 0\n"
          "    raw = {**raw, 'prompt_tokens': raw['prompt_tokens'] + more}",
          "tests/metering/test_meter.py::test_anthropics_cache_tokens_are_added_and_openais_are_not"),
    Fault("B6", "Anthropic's cache tokens are taken for a part of its input", _METERING + "anthropic.py:usage_of",
          "return Usage(input_tokens=count(raw.get('input_tokens')), output_tokens=count(raw.get('output_tokens')))",
          "tests/metering/test_meter.py::test_anthropics_cache_tokens_are_added_and_openais_are_not"),
    Fault("B7", "Gemini's thoughts are dropped", _METERING + "gemini.py:usage_of",
          "raw = {k: v for k, v in raw.items() if k != 'thoughtsTokenCount'}",
          "tests/metering/test_fixtures.py::test_a_response_bills_what_its_provider_says"),
    Fault("B8", "reasoning is added to the output", _METERING + "openai.py:usage_of",
          "if type(raw) is dict and 'completion_tokens' in raw:\n"
          "    more = (raw.get('completion_tokens_details') or {}).get('reasoning_tokens') or 0\n"
          "    raw = {**raw, 'completion_tokens': raw['completion_tokens'] + more}",
          "tests/metering/test_fixtures.py::test_a_response_bills_what_its_provider_says"),
    Fault("B9", "AWS's event streams are not read", _METERING + "eventstream.py:Messages.feed", "return []",
          _CAPTURE + "test_bedrock.py::test_converse_stream"),
    Fault("B10", "a stream that is left has no end", "aicostguard/capture/tap.py:Tap.end",
          "if not complete:\n    self.call._meter.clear()\n    return", _CAPTURE + "test_left.py::test_left"),
    Fault("B11", "only the end of the bytes ends a stream", _METERING + "meter.py:Meter._event",
          "self._fold.event(data)\nreturn",
          "tests/metering/test_meter.py::test_the_usage_event_of_openai_ends_the_stream_before_its_marker"),
    Fault("B12", "a stream without usage is 0 and 0", "aicostguard/capture/billed.py:receipt_of",
          "from aicostguard.usage import Usage\n"
          "if reading.usage is None:\n    reading = reading._replace(usage=Usage(input_tokens=0, output_tokens=0))",
          _CAPTURE + "test_stream_usage.py"),
    Fault("B13", "a zero is missing", "aicostguard/receipt.py:build",
          "usage = usage and usage._replace(**{k: None for k, v in usage._asdict().items() if v == 0})",
          _CAPTURE + "test_counting.py::test_zero_is_not_missing"),
    Fault("B14", "the SDK's name tells the provider", _METERING + "endpoints.py:recognise",
          "hosts = () if len(hosts) else hosts\nhost = 'api.openai.com'",
          _CAPTURE + "test_counting.py::test_the_host_says_who_is_asked"),
    Fault("B15", "usage is looked for in the text", _METERING + "scan.py:members",
          "import json, re\n"
          "found = re.search(rb'\"usage\": ?(\\{[^{}]*\\})', body.replace(b'\\\\\"', b'\"'))\n"
          "return {'usage': json.loads(found.group(1)), 'model': 'm'} if found else {}",
          _CAPTURE + "test_counting.py::test_what_looks_like_usage"),
    Fault("B16", "a turn of a session bills text only", _METERING + "live_openai.py:Realtime.done",
          "response = dict(mapping(event.get('response')))\n"
          "usage = {k: v for k, v in mapping(response.get('usage')).items() if not k.endswith('_details')}\n"
          "event = {**event, 'response': {**response, 'usage': usage}}",
          _CAPTURE + "test_sessions.py::test_a_realtime_session"),
    Fault("B17", "one mark for all calls of an agent's run", _CALL + "Call.read",
          "seen = globals().setdefault('_seen', {})\n"
          "if seen.setdefault(id(self.labels), self) is not self:\n    return",
          _CAPTURE + "test_counting.py::test_five_at_once"),
    Fault("E1", "a forked child takes its parent's queue for its own", _DELIVERY + "living.py:forked", "return",
          _SENT + "test_fork.py::test_a_child_sends_its_own_and_nothing_of_its_parent"),
    Fault("E2", "a fork without hooks is not noticed", _DELIVERY + "delivery.py:Delivery._stamp",
          "return next(self._seq), int(clock.time() * 1000), encoded(receipt, self._core)",
          _SENT + "test_fork.py::test_a_fork_in_c_that_runs_no_hook_is_noticed"),
    Fault("E3", "who is made while the program ends waits for a thread", _DELIVERY + "delivery.py:Delivery._send_here",
          "self._courier.put(entries)\nreturn",
          _SENT + "test_exit.py::test_the_first_receipt_inside_an_exit_handler_arrives"),
    Fault("E4", "an end waits as long as an exchange may take", _DELIVERY + "delivery.py:Delivery._leave",
          "self._exiting = self._courier.leaving = True\nself._shut(10.0, force=True)\nreturn",
          _SENT + "test_exit.py::test_a_black_hole_costs_two_seconds_at_most_and_nothing_is_lost"),
    Fault("E5", "a thread that is gone is waited for", _DELIVERY + "delivery.py:Delivery._start",
          "if self._worker is not None:\n    self._worker.alive = True\n    return self._worker",
          _SENT + "test_background.py::test_a_killed_worker_is_replaced_and_flush_does_not_wait_for_it"),
    Fault("E6", "the sender's thread is like any other", _DELIVERY + "worker.py:Worker.load", "inside.set(False)",
          _SENT + "test_background.py::test_our_own_requests_are_never_metered"),
    Fault("E7", "what is sent again has another name", _DELIVERY + "envelope.py:Batch.render",
          "import secrets\nself.head['epoch'] = secrets.token_hex(13)",
          _SENT + "test_background.py::test_a_reply_lost_after_the_commit_is_sent_again_under_the_same_identity"),
    Fault("E8", "a receipt is only said to be on disk", _DELIVERY + "spool.py:Spool.write", "return True",
          _SENT + "test_durable.py::test_what_a_killed_process_had_submitted_is_delivered_by_the_next"),
    Fault("E9", "the key stands in the envelope", _DELIVERY + "courier.py:Courier.head",
          "return dict(envelope.head(self.settings, self.epoch), service=self.settings.key)",
          _SENT + "test_status.py::test_key_and_url_never_reach_spool_log_status_or_body"),
    Fault("E10", "another sitecustomize is not run", "aicostguard/cli/site/sitecustomize.py:_hand_over", "return",
          _CAPTURE + "test_launcher.py::test_another_sitecustomize_is_handed_over_to"),
    Fault("G16", "a fault of ours goes on to the caller", "aicostguard/health.py:Health.fault", "raise error",
          _SAFETY + "cannot_break_calls.py::test_delivery_that_raises_changes_no_result[error0]"),
    Fault("G17", "a receipt says more than it may", _DELIVERY + "delivery.py:Delivery.submit",
          "receipt = dict(receipt, user='planted')",
          _SAFETY + "payload_keys_only.py::test_a_plain_call_sends_exactly_the_six_keys"),
    Fault("G18", "the key stands in the envelope", _DELIVERY + "courier.py:Courier.head",
          "return dict(envelope.head(self.settings, self.epoch), service=self.settings.key)",
          _SAFETY + "no_api_key_leak.py::test_no_key_leaves_the_process[inline]"),
    Fault("G19", "every call waits for three milliseconds", _HTTPX + "_Tapper.begin", "import time\ntime.sleep(0.003)",
          _SAFETY + "overhead_under_2ms.py::test_p99_of_what_we_add[openai]"),
    Fault("G20", "nobody is warned", "aicostguard/health.py:Health.warn", "return",
          _SAFETY + "warnings_fire.py::test_a_version_outside_the_tested_range_is_said_once"),
    Fault("G21", "a serverless platform is taken for a server", "aicostguard/config.py:Settings.inline",
          "return self.mode == 'inline'",
          _SAFETY + "serverless_flush.py::test_submit_posts_before_it_returns_and_starts_no_thread"),
)  # fmt: skip
