"""Results of batches: files of one JSON object a line, and the lists that stand for small ones.

Owns the sums of such a file. A file may have 100,000 lines, so nothing of a line is kept but its counts: lines
of the same model, tier and place are added up, and the receipt says by `requests_billed` how many they were. Prices may
change with the size of a request, so only lines in one band between the edges of `BANDS` are added. Never raises for
what a file holds; a file that holds something else bills nothing. If this is wrong, the cheapest traffic there is
has the largest mistakes.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from aicostguard.metering.anthropic import read_message
from aicostguard.metering.formats import Facts, Fold, Format, is_error
from aicostguard.metering.openai import read_completion
from aicostguard.metering.responses import read_response
from aicostguard.metering.scan import members_within
from aicostguard.metering.values import mapping, parse
from aicostguard.receipt import FIELDS
from aicostguard.usage import Reading, Usage

#: sizes of input above which some price of some model changes (a test compares them with the price book)
BANDS = (32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288)
#: sums that are kept; what does not fit is added up without its model
MOST_SUMS = 256
#: the largest count of each kind that a receipt may hold: a sum that would pass it goes on in another receipt
_MOST = tuple(FIELDS[name].most for name in Usage._fields)
#: from this size on, the usage of a line is looked for at its end
_LARGE = 8192


class _Key(NamedTuple):
    model: Optional[str]
    service_tier: Optional[str]
    region: Optional[str]
    band: int
    missing: bool
    mismatch: bool


class Sums:
    """Readings added up."""

    __slots__ = ("_sums", "_full")

    def __init__(self) -> None:
        self._sums: Dict[_Key, Tuple[int, List[Optional[int]]]] = {}
        self._full: List[Reading] = []

    def add(self, reading: Reading) -> None:
        """Add one billed response."""
        usage = reading.usage or Usage()
        # That it was a batch is said by the operation.
        tier = None if reading.service_tier == "batch" else reading.service_tier
        band = bisect_left(BANDS, usage.input_tokens or 0)
        key = _Key(reading.model, tier, reading.region, band, reading.usage is None, reading.mismatch)
        if key not in self._sums and len(self._sums) >= MOST_SUMS:
            key = key._replace(model="")
        number, counts = self._sums.get(key, (0, [None] * len(Usage._fields)))
        if number and any(v and (sofar or 0) + v > most for v, sofar, most in zip(usage, counts, _MOST)):
            self._full.append(_reading(key, number, counts))
            number, counts = 0, [None] * len(Usage._fields)
        for at, value in enumerate(usage):
            if value is not None:
                counts[at] = (counts[at] or 0) + value
        self._sums[key] = (number + 1, counts)

    def readings(self) -> List[Reading]:
        """One reading a sum, or several where one would be more than a receipt may hold."""
        return self._full + [_reading(key, number, counts) for key, (number, counts) in self._sums.items()]


def _reading(key: _Key, number: int, counts: List[Optional[int]]) -> Reading:
    usage = Usage(*counts)._replace(requests_billed=number if number > 1 else None)
    return Reading(
        key.model, None if key.missing else usage, operation="batch", service_tier=key.service_tier,
        region=key.region, mismatch=key.mismatch,
    )  # fmt: skip


class _FileFold(Fold):
    """The lines of one file."""

    __slots__ = ("_sums",)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._sums = Sums()

    def event(self, data: bytes) -> bool:
        for reading in self.line(data):
            self._sums.add(reading)
        return False

    def line(self, data: bytes) -> List[Reading]:
        raise NotImplementedError

    def readings(self) -> List[Reading]:
        return self._sums.readings()


class MessageBatchFold(_FileFold):
    """Anthropic: `{"custom_id", "result": {"type": "succeeded", "message": {…}}}`; other types bill nothing.

    https://platform.claude.com/docs/en/build-with-claude/batch-processing
    """

    def line(self, data: bytes) -> List[Reading]:
        result = mapping(mapping(parse(data)).get("result"))
        message = mapping(result.get("message"))
        if result.get("type") != "succeeded" or not message:
            return []
        return read_message(message, self.facts)


class BatchFileFold(_FileFold):
    """OpenAI and all that follow it: `{"custom_id", "response": {"status_code": 200, "body": {…}}, "error": null}`.

    https://developers.openai.com/api/reference/resources/batch (request output)
    """

    def line(self, data: bytes) -> List[Reading]:
        # Any file can be fetched under this path; its lines are told by what stands at their start.
        if b'"custom_id"' not in data[:4096]:
            return []
        if len(data) >= _LARGE and b'"embedding"' in data[:4096]:
            # Their numbers are not read: what is wanted stands behind them.
            body = members_within(data, ("response", "body"), "usage", ("model",))
            if body is not None:
                return read_body_of({**body, "object": "list"}, self.facts)
        return read_result(mapping(parse(data)), self.facts)


def read_result(row: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """One answer of a batch, parsed."""
    response = mapping(row.get("response"))
    status = response.get("status_code", 200)
    body = mapping(response.get("body"))
    if not body or type(status) is not int or not 200 <= status < 300:
        return []
    return read_body_of(body, facts)


def read_body_of(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """The body of an answer; its own `object` says which format it has."""
    kind = body.get("object")
    if is_error(body, "usage", "choices", "data", "output"):
        return []
    if kind == "response":
        return read_response(body, facts._replace(format="responses"))
    if "results" in body and "usage" not in body:
        return []  # moderation, which is free
    return read_completion(body, facts._replace(format="embeddings" if kind == "list" else "chat"))


def read_rows(rows: Any, facts: Facts) -> List[Reading]:
    """The answers of a batch that stand in a list."""
    sums = Sums()
    for row in rows if type(rows) is list else []:
        for reading in read_result(mapping(row), facts):
            sums.add(reading)
    return sums.readings()


def _nothing(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    return []


def read_job(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Mistral's batch job, fetched with `inline=true`: https://docs.mistral.ai/capabilities/batch/"""
    return read_rows(body.get("outputs"), facts)


MESSAGE_BATCH = Format(
    "message_batch", "batch", "", (), (), _nothing, (b"{",), None, MessageBatchFold, 0,
    "https://platform.claude.com/docs/en/build-with-claude/batch-processing", file=True,
)  # fmt: skip
BATCH_FILE = MESSAGE_BATCH._replace(
    name="batch_file", fold=BatchFileFold, docs="https://developers.openai.com/api/reference/resources/batch"
)
BATCH_JOB = MESSAGE_BATCH._replace(
    name="batch_job", usage="outputs", read=read_job, file=False, docs="https://docs.mistral.ai/capabilities/batch/"
)

FORMATS = (MESSAGE_BATCH, BATCH_FILE, BATCH_JOB)
