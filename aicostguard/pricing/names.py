"""Whose prices a call has, and under which names they are listed.

Owns the table from a receipt's provider to the price books it may use, and the list of decorations that may
be taken off a model's name. Pure: text in, candidates out. Never guesses: a name that is not listed, once its
decoration is off, is a different model. If a rule here is too wide, one model gets another's price and
nobody notices.

A decoration is a version, an alias or an address of the same model: a date, `-latest`, `@20250805`, `-v1:0`, `models/`,
the ARN of an inference profile. A word (`-pro`, `-audio-preview`, `-mini`, `-5`) is never one.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, NamedTuple, Optional, Pattern, Tuple


class Place(NamedTuple):
    """Where to look: a book, a model's name in it, and whether the book is the provider's own.

    In a borrowed book only the plain rows count: its service tiers and its free models are its owner's.
    """

    book: str
    name: str
    own: bool = True


#: receipt provider → books, in order; a provider that is not here uses the book of its own name, if there is one.
#: Azure and Vertex fall back as genai-prices does (`fallback_model_providers`): Azure sells OpenAI's models at
#: OpenAI's prices on global deployments, https://azure.microsoft.com/pricing/details/cognitive-services/openai-service/;
#: Claude on Vertex costs what Anthropic lists, https://cloud.google.com/vertex-ai/generative-ai/pricing
BOOKS: Dict[str, Tuple[str, ...]] = {
    "azure": ("azure", "openai", "anthropic", "deepseek", "x-ai", "moonshotai"),
    "bedrock": ("aws",),
    "vertex": ("google", "anthropic"),
    "xai": ("x-ai",),
    "voyage": ("voyageai",),
}
#: providers that have a book of their own name or of BOOKS, but whose first book is somebody else's free offer
NEVER_FREE = ("vertex",)

#: Vercel's gateway bills the vendor's list price without a markup, https://vercel.com/docs/ai-gateway/pricing.
#: Only vendors that serve their own closed models: open weights are served by others at other prices.
VERCEL_VENDORS: Dict[str, str] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "xai": "x-ai",
    "cohere": "cohere",
    "perplexity": "perplexity",
    "voyage": "voyageai",
}
OPEN_WEIGHTS = re.compile(r"(gpt-oss|gemma)")

#: whose price a model has when only its name is known: providers of receipts that make models, in this order
MAKERS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "cohere",
    "xai",
    "deepseek",
    "perplexity",
    "voyage",
    "moonshotai",
    "zai",
    "minimax",
    "meta",
    "bedrock",
)
#: books of those who sell other makers' models beside a product of their own: never meant by a bare name
RESELLERS = ("cursor", "github-copilot", "quicksilverpro", "azure", "openai-decisions")

#: paths in front of a model's name, by book (None: any)
_PREFIXES: Tuple[Tuple[str, Optional[str]], ...] = (
    ("models/", "google"),
    ("publishers/google/models/", "google"),
    ("publishers/anthropic/models/", "google"),
    ("publishers/anthropic/models/", "anthropic"),
    ("google/", "google"),
    ("anthropic/", "anthropic"),
)
_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:(?:inference-profile|foundation-model)/([^/]+)\Z")

_DASHED = re.compile(r"-(20\d\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\Z")
_COMPACT = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])\Z")

#: endings that say which edition of a model answered, by book (None: any)
_ENDINGS: Tuple[Tuple[Pattern[str], Optional[str]], ...] = (
    (re.compile(r"@[a-z0-9.-]*\Z"), None),
    (_DASHED, None),
    (_COMPACT, None),
    (re.compile(r"-latest\Z"), None),
    (re.compile(r"(?<=-v\d):\d+(:\d+k)?\Z"), "aws"),
    (re.compile(r"-v\d\Z"), "aws"),
    # "gemini-2.0-flash-001": https://ai.google.dev/gemini-api/docs/models#model-versions
    (re.compile(r"-0\d\d\Z"), "google"),
)

#: cross-region inference profiles, https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
GEOGRAPHIES = ("us", "us-gov", "eu", "apac", "au", "ca", "in", "jp", "global")
_GEOGRAPHY = re.compile(r"(%s)\." % "|".join(GEOGRAPHIES))


def places(provider: str, model: str) -> Iterator[Place]:
    """Books and names a receipt's model may be listed under, in the order of preference."""
    name = model.lower()
    if provider == "vercel":
        vendor, _, rest = name.partition("/")
        if vendor in VERCEL_VENDORS and not OPEN_WEIGHTS.match(rest):
            yield Place(VERCEL_VENDORS[vendor], rest)
        return
    if provider == "huggingface":
        # the router names the host that answered: "meta-llama/llama-3.3-70b-instruct:together"
        rest, _, host = name.rpartition(":")
        if rest:
            yield Place("huggingface_" + host, rest)
        return
    books = BOOKS.get(provider, (provider,))
    for book in books:
        yield Place(book, name, own=book == books[0])


def candidates(book: str, name: str) -> Iterator[Tuple[str, Optional[str]]]:
    """`(name, geography)`: the name itself, then with one decoration after the other taken off, most exact first.

    A fine-tuned model has only the names of fine-tuned rows: never its base model's.
    """
    arn = _ARN.match(name)
    if arn and book == "aws":
        name = arn.group(1)
    if name.startswith("ft:"):
        base = name.split(":", 2)[1]
        for plain in _undecorated(book, base):
            yield "ft:" + plain, None
        return
    base, tuned, _ = name.partition(".ft-")  # "gpt-4o-mini-2024-07-18.ft-0e1f…", as Azure names them
    if tuned:
        for plain in _undecorated(book, base):
            yield plain + ".ft", None
        return
    for plain in _undecorated(book, name):
        yield plain, None
    geography = _GEOGRAPHY.match(name) if book == "aws" else None
    if geography:
        for plain in _undecorated(book, name[geography.end() :]):
            yield plain, geography.group(1)


def _undecorated(book: str, name: str) -> Iterator[str]:
    yield from _spellings(name)
    for prefix, where in _PREFIXES:
        if where in (None, book) and name.startswith(prefix):
            name = name[len(prefix) :]
            yield from _spellings(name)
            break
    ending = True
    while ending:
        ending = False
        for pattern, where in _ENDINGS:
            if where in (None, book):
                shorter = pattern.sub("", name)
                if shorter and shorter != name:
                    name, ending = shorter, True
                    yield from _spellings(name)
                    break


def _spellings(name: str) -> Iterator[str]:
    """The name, and with its date in the other spelling: gateways write `gpt-4o-20240513`."""
    yield name
    if _DASHED.search(name):
        yield _DASHED.sub(r"-\1\2\3", name)
    elif _COMPACT.search(name):
        yield _COMPACT.sub(r"-\1-\2-\3", name)
