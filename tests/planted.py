"""Faults that were planted to see a test fail: what somebody could break, and the test that would say so.

Each is a statement put at the beginning of one function of ours (or at the end of a module), as a table:
`scripts/faults` plants them one by one in a copy of the tree. At least one for every id of the pitfalls A to E, and for
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
_PRICING = "aicostguard/pricing/"
_GUARD = "aicostguard/guard/"
_CAPTURE = "tests/capture/"
_PRICED = "tests/pricing/"
_GUARDED = "tests/guard/"
_LEDGER = "tests/ledger/"
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
    Fault("C1", "an hour in the cache costs what five minutes cost", _PRICING + "rates.py:Rates.__init__",
          "if 'cache_write' in token:\n    token = {**token, 'cache_write_1h': token['cache_write']}",
          _PRICED + "test_money.py::test_every_claude_row_of_the_book_charges_an_hour_at_twice_the_input"),
    Fault("C2", "the tier that was asked for is billed", "aicostguard/capture/billed.py:receipt_of",
          "asked = __import__('json').loads(call.body() or b'{}').get('service_tier')\n"
          "reading = reading._replace(service_tier=asked)",
          _CAPTURE + "test_counting.py::test_the_tier_that_served_is_billed"),
    Fault("C2", "a tier has two prices, and its cached tokens the usual one", _PRICING + "plan.py:Plan._make",
          "self.variants = [row._replace(prices={key: row.prices[key] for key in ('input', 'output')})\n"
          "                 for row in self.variants]",
          _PRICED + "test_dates.py::test_tier_cache_and_long_context_compose"),
    Fault("C3", "the threshold itself costs the higher rate", _PRICING + "plan.py:Tiers.at",
          "return self.rates[sum(start <= (input_tokens or 0) for start in self.starts)]",
          _PRICED + "test_money.py::test_gemini_switches_above_200_thousand"),
    Fault("C3", "only what is above the threshold costs the higher rate", _PRICING + "book.py:PriceBook.price",
          "above = (receipt.get('input_tokens') or 0) - 200_000\n"
          "if above > 0:\n"
          "    low = self.price({**receipt, 'input_tokens': 200_000}, at_ms)\n"
          "    plan = self._plan((receipt['provider'], receipt['model'], None, None, None))\n"
          "    high = plan.at(at_ms).at(200_001).input.femto // 10**6\n"
          "    return low._replace(cost_nanousd=low.cost_nanousd + above * high)",
          _PRICED + "test_money.py::test_gemini_switches_above_200_thousand"),
    Fault("C4", "audio costs what text costs", _PRICING + "rates.py",
          "FALLBACKS = (('input_audio', 'input', None), *FALLBACKS)",
          _PRICED + "test_money.py::test_audio_has_its_own_rate_or_no_price_at_all"),
    Fault("C4", "who could have searched pays for a search", _PRICING + "book.py:PriceBook.price",
          "if 'web_searches' in receipt:\n"
          "    receipt = {**receipt, 'web_searches': max(1, receipt['web_searches'])}",
          _PRICED + "test_money.py::test_a_search_fee_is_the_number_of_searches_made"),
    Fault("C5", "the name that was asked for is billed", "aicostguard/capture/billed.py:receipt_of",
          "reading = reading._replace(model=__import__('json').loads(call.body())['model'])",
          _CAPTURE + "test_counting.py::test_the_model_that_answered_is_billed"),
    Fault("C5", "an alias goes before the model that answered", _PRICING + "resolve.py:_own_terms",
          "meant = terms.alias(ask.provider, ask.model)\n"
          "if meant is not None:\n    ask = ask._replace(provider=meant[0], model=meant[1])",
          _PRICED + "test_pricefile.py::test_the_response_model_comes_first_and_the_alias_second"),
    Fault("C5", "a fine-tune costs what its base model costs", _PRICING + "names.py:candidates",
          "name = name.split(':')[1] if name.startswith('ft:') else name",
          _PRICED + "test_names.py"
          "::test_decoration_comes_off_and_deployments_profiles_and_fine_tunes_never_get_the_base_price"),
    Fault("C6", "a model that nobody lists has the price of another", _PRICING + "resolve.py:resolve",
          "if find(books, ask.provider, ask.model) is None:\n"
          "    ask = ask._replace(provider='openai', model='gpt-4o')",
          _PRICED + "test_money.py::test_an_unknown_model_is_unpriced_and_never_zero_or_a_default"),
    Fault("C6", "what has no price is stored as costing nothing", "aicostguard/ledger/ingest.py:_rows",
          "asked = price\n"
          "price = lambda *call: asked(*call)._replace(cost_nanousd=asked(*call).cost_nanousd or 0)",
          _LEDGER + "test_money.py::test_an_unknown_model_is_unpriced_counted_and_never_zero"),
    Fault("C7", "any text is a price", _PRICING + "rates.py:_check_decimal", "return",
          _PRICED + "test_money.py::test_a_bad_price_is_refused_with_row_key_and_value"),
    Fault("C7", "parts may be more than the whole", _PRICING + "charge.py:_split",
          "whole = max(whole or 0, sum(count for _, count in classes))",
          _PRICED + "test_money.py::test_parts_that_exceed_the_whole_are_refused_and_no_cost_is_negative"),
    Fault("C7", "a negative cost is stored", "aicostguard/ledger/ingest.py:_rows",
          "asked = price\n"
          "price = lambda *call: asked(*call)._replace(cost_nanousd=abs(asked(*call).cost_nanousd))",
          _LEDGER + "test_money.py::test_a_cost_out_of_bounds_is_refused_not_stored"),
    Fault("C8", "what comes again is priced again", "aicostguard/ledger/sqlite/write.py:apply",
          "connection.execute('DROP TRIGGER receipts_are_immutable')\n"
          "for row in batch.rows:\n"
          "    connection.execute('UPDATE receipts SET cost_nanousd = ? WHERE epoch = ? AND seq = ?',\n"
          "                       (row.cost_nanousd, batch.epoch, row.seq))",
          _LEDGER + "test_money.py::test_stored_cost_stays_when_prices_change"),
    Fault("C8", "the latest price is that of every day", _PRICING + "plan.py:When.active", "return True",
          _PRICED + "test_dates.py::test_the_price_of_the_day_of_the_call_counts_and_old_rows_stay"),
    Fault("C9", "regions cost the same everywhere", _PRICING + "regions.py:premiums", "return []",
          _PRICED + "test_regions.py::test_a_premium_is_on_the_models_and_regions_that_its_provider_names"),
    Fault("C9", "a premium is on input and output alone", _PRICING + "rates.py",
          "_plain = build\n"
          "def build(book, model, prices, above, scale=AS_LISTED):\n"
          "    made, listed = _plain(book, model, prices, above, scale), _plain(book, model, prices, above)\n"
          "    cached = {key: rate for key, rate in listed.token.items() if key.startswith('cache')}\n"
          "    return Rates({**made.token, **cached}, made.unit, made.uncounted)",
          _PRICED + "test_regions.py::test_a_premium_scales_cached_and_written_tokens_and_reasoning"),
    Fault("C10", "money is counted in floats", _GUARD + "store/memory.py:MemoryStore._reserve",
          "for n, (counter, amount) in enumerate(zip(counters, amounts)):\n"
          "    cell = self._cells.get(counter.key) or self._make(counter)\n"
          "    if counter.hard and cell.spent / 1e9 + amount / 1e9 > counter.limit / 1e9:\n"
          "        return Refusal(n, cell.spent, cell.reserved)",
          _GUARDED + "test_engine.py::test_equal_is_allowed_and_a_nano_dollar_above_is_not"),
    Fault("C10", "a sum is rounded as a float", _PRICING + "charge.py:nano", "return round(float(femto) / NANO)",
          _PRICED + "test_money.py::test_parts_add_up_to_the_cost_and_the_cost_to_exact_arithmetic"),
    Fault("D1", "threads look and take without a lock", _GUARD + "store/memory.py",
          "MemoryStore.reserve = lambda self, *step, wait=True: self._reserve(*step)",
          _GUARDED + "test_engine.py::test_sixty_four_threads_never_pass_the_cap_and_lose_no_room"),
    Fault("D1", "processes take what another has taken", _GUARD + "store/file.py",
          "_STEPS = _STEPS.replace(\"'no room') WHERE\", \"'no room') WHERE 0 AND\")",
          _GUARDED + "store/test_processes.py::test_sixteen_processes_never_pass_the_cap_and_lose_no_room[sqlite]"),
    Fault("D1", "streams of two processes look for room, and then both grow", _GUARD + "store/file.py:File.transaction",
          "return work()",
          _GUARDED + "store/test_processes.py::test_sixteen_processes_never_pass_the_cap_and_lose_no_room[sqlite]"),
    Fault("D1", "what is lent to one host has room for the next", "aicostguard/ledger/budgets/leases.py",
          "counters = type('Blind', (), {'balance': counters.balance, 'add': lambda *amount: None})",
          _GUARDED + "test_remote.py"
          "::test_the_ledgers_budget_holds_for_programs_that_say_one_line_and_for_one_that_starts_without_it"),
    Fault("D2", "who comes first begins the counter, over what others began", "aicostguard/ledger/budgets/counters.py",
          "_ADD = _ADD.replace('INSERT', 'INSERT OR REPLACE').partition('ON CONFLICT')[0]",
          _LEDGER + "test_budgets_crowd.py::test_the_first_calls_of_a_new_budget_at_the_same_moment"),
    Fault("D3", "each process has a file of its own", _GUARD + "store/sqlite.py:SqliteStore.__init__",
          "path += str(getpid())", _GUARDED + "test_programs.py::test_programs_share_one_budget[file]"),
    Fault("D4", "a rebuild adds", _GUARD + "store/memory.py:MemoryStore.rebuild",
          "spent = {key: amount + self.one(key, now).spent for key, amount in spent.items()}",
          _GUARDED + "test_engine.py::test_a_rebuild_is_the_other_books_figure_however_often"),
    Fault("D4", "no budget is a budget of nothing", _GUARD + "engine.py:Guard.ask",
          "if not self.policy.budgets:\n    raise BudgetExhausted('no budget')",
          _GUARDED + "test_engine.py::test_without_a_budget_nothing_is_ever_refused_or_kept"),
    Fault("D4", "a refusal gives no figures", _GUARD + "errors.py:BudgetExceeded.__init__",
          "limit, spent, estimate = None, 0, None",
          _GUARDED + "test_gate.py::test_a_refusal_names_its_rule_and_figures"),
    Fault("D5", "days are those of UTC, whatever the zone", _GUARD + "period.py:span", "tz = UTC",
          _GUARDED + "test_period.py::test_days_on_which_the_clock_is_changed"),
    Fault("D5", "a day has 24 hours", _GUARD + "period.py:_day",
          "day = _date(tz, at_ms)\nsince = _begin(tz, day) * 1000\n"
          "return Span(day.isoformat(), since, since + 24 * HOUR_MS)",
          _GUARDED + "test_period.py::test_days_on_which_the_clock_is_changed"),
    Fault("D6", "calls without a price are not counted", _GUARD + "store/memory.py:MemoryStore._settle",
          "amounts = [amount or 0 for amount in amounts]",
          _GUARDED + "test_gate.py::test_unknown_bounds_and_unpriced_models"),
    Fault("D6", "who wants no calls without a price gets them", _GUARD + "asking.py:Asking._unpriced", "return ()",
          _GUARDED + "test_gate.py::test_unknown_bounds_and_unpriced_models"),
    Fault("D7", "each process tells for itself", _GUARD + "store/memory.py:MemoryStore.once", "return True",
          _GUARDED + "test_engine.py::test_each_threshold_is_told_once_per_period_and_scope"),
    Fault("D7", "nothing is due", _GUARD + "alerts.py:Alerts.due", "return False",
          _GUARDED + "test_engine.py::test_each_threshold_is_told_once_per_period_and_scope"),
    Fault("D8", "what is asked for is not compared", _GUARD + "loops.py:Loops.seen", "content = None",
          _GUARDED + "test_gate.py::test_a_loop_is_stopped_before_the_provider"),
    Fault("D8", "a loop says budget", _GUARD + "loops.py:Loops._told", "text = 'Budget exceeded'",
          _GUARDED + "test_gate.py::test_a_loop_is_stopped_before_the_provider"),
    Fault("D9", "only an agent and its parent have caps", _GUARD + "tree.py:_Node.chain",
          "yield self\nif self.parent is not None:\n    yield self.parent\nreturn",
          _GUARDED + "test_tree.py::test_sums_and_caps_hold_whatever_is_done"),
    Fault("D9", "what was handed on is counted twice", _GUARD + "tree.py:_Node.total",
          "return self.direct + 2 * self.delegated",
          _GUARDED + "test_tree.py::test_direct_delegated_total_and_calls"),
    Fault("D10", "a check looks through what there was", _GUARD + "store/memory.py:MemoryStore._settle",
          "past = globals().setdefault('_past', [])\npast.append(1)\nfor each in past:\n    pass",
          _GUARDED + "test_engine.py::test_a_check_does_the_same_work_after_many_as_after_few"),
    Fault("D10", "calls are remembered", _GUARD + "store/memory.py:MemoryStore._settle",
          "globals().setdefault('_past', []).append((ticket, now))",
          _GUARDED + "test_engine.py::test_a_check_does_the_same_work_after_many_as_after_few"),
    Fault("D11", "what an error has not used stays held", _GUARD + "engine.py:Guard.release", "return",
          _GUARDED + "test_gate.py::test_an_error_status_gives_everything_back"),
    Fault("D11", "who is gone holds for good", _GUARD + "store/sqlite.py:SqliteStore.expire", "return 0",
          _GUARDED + "test_programs.py::test_what_a_killed_program_held_is_booked_when_its_lease_ends"),
    Fault("D12", "a refusal is an exception like any other", "aicostguard/capture/gate.py",
          "Refused = type('Refused', (Exception,), {'__init__': Refused.__init__})",
          _GUARDED + "test_refusals.py::test_an_sdk_does_not_retry_a_refusal"),
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
