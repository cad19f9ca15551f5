"""One response from each host that speaks OpenAI's formats, and from what such hosts have beside them."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from tests.metering.building import C1, JSON, SSE, add, chat, chunk, counts, says, sse, void, whole

#: provider, host, path, members of `usage` beyond the counts, what they say
HOSTS: Tuple[Tuple[str, str, str, Dict[str, Any], Dict[str, int]], ...] = (
    ("arcee", "api.arcee.ai", "/v1/chat/completions", {}, {}),
    ("baseten", "inference.baseten.co", "/v1/chat/completions", {}, {}),
    ("deepinfra", "api.deepinfra.com", "/v1/openai/chat/completions", {"estimated_cost": 0.0000268}, {}),
    ("github", "models.github.ai", "/orgs/o/inference/chat/completions", {}, {}),
    ("azure", "m.eastus2.models.ai.azure.com", "/v1/chat/completions", {}, {}),
    ("cloudflare", "api.cloudflare.com", "/client/v4/accounts/a/ai/v1/chat/completions", {}, {}),
    ("jina", "api.jina.ai", "/v1/chat/completions", {}, {}),
    (
        "minimax", "api.minimax.io", "/v1/chat/completions",
        {"prompt_tokens_details": {"cached_tokens": 3}}, {"cache_read_input_tokens": 3},
    ),
    ("moonshotai", "api.moonshot.ai", "/v1/chat/completions", {"cached_tokens": 4}, {"cache_read_input_tokens": 4}),
    ("nebius", "api.tokenfactory.nebius.com", "/v1/chat/completions", {}, {}),
    ("novita", "api.novita.ai", "/openai/v1/chat/completions", {}, {}),
    ("nvidia", "integrate.api.nvidia.com", "/v1/chat/completions", {}, {}),
    ("ovhcloud", "oai.endpoints.kepler.ai.cloud.ovh.net", "/v1/chat/completions", {}, {}),
    ("sambanova", "api.sambanova.ai", "/v1/chat/completions", {}, {}),
    ("zhipuai", "open.bigmodel.cn", "/api/paas/v4/chat/completions", {}, {}),
)  # fmt: skip
for _provider, _host, _path, _more, _said in HOSTS:
    add(_provider + " chat", _host, _path, whole(chat(counts(15, 16, **_more))), JSON,
        says(_provider, (15, 16), **C1, **_said))  # fmt: skip
    add(
        _provider + " chat stream", _host, _path,
        sse(chunk(), chunk(None, usage=counts(15, 16, **_more)), done=True), SSE,
        says(_provider, (15, 16), streamed=True, **C1, **_said), done=True,
    )  # fmt: skip

RANKED = {"id": "c1", "model": "m-1", "results": [{"index": 0, "relevance_score": 0.9}], "usage": counts(40, 0)}
add("together rerank", "api.together.xyz", "/v1/rerank", whole(RANKED), JSON,
    says("together", (40, 0), operation="rerank", **C1))  # fmt: skip
add("fireworks rerank", "api.fireworks.ai", "/inference/v1/rerank", whole(RANKED), JSON,
    says("fireworks", (40, 0), operation="rerank", **C1))  # fmt: skip
add("jina rerank", "api.jina.ai", "/v1/rerank", whole({**RANKED, "usage": {"total_tokens": 40}}), JSON,
    says("jina", (40, 0), operation="rerank", **C1))  # fmt: skip

# --- work that is put off ----------------------------------------------------------------------------------------
ORDERED = {"id": "c1", "model": "m-1", "created_at": 1, "status": "CREATED", "response": None}
SONAR = "api.perplexity.ai"
add("perplexity task, ordered", SONAR, "/async/chat/completions", whole(ORDERED), JSON,
    says("perplexity", None, pending=True, **C1))  # fmt: skip
add(
    "perplexity task, fetched", SONAR, "/v1/async/sonar/c1",
    whole({**ORDERED, "status": "COMPLETED", "response": chat(counts(5, 6, citation_tokens=7), id="r")}), JSON,
    says("perplexity", (12, 6), **C1), method="GET",
)  # fmt: skip
add("perplexity task that failed", SONAR, "/v1/async/sonar/c1", whole({**ORDERED, "status": "FAILED"}), JSON,
    void("perplexity", "c1"), method="GET")  # fmt: skip
add("perplexity embeddings", SONAR, "/v1/contextualizedembeddings",
    whole({"object": "list", "data": [], "model": "m-1", "usage": {"prompt_tokens": 8, "total_tokens": 8}}), JSON,
    says("perplexity", (8, 0), operation="embeddings"))  # fmt: skip

# --- Cohere at Azure, Workers AI ---------------------------------------------------------------------------------
UNITS = {
    "billed_units": {"input_tokens": 12, "output_tokens": 47},
    "tokens": {"input_tokens": 212, "output_tokens": 47},
}
ANSWER = {"id": "c1", "message": {"role": "assistant", "content": []}, "finish_reason": "COMPLETE", "usage": UNITS}
add("cohere at azure", "a.services.ai.azure.com", "/providers/cohere/v2/chat", whole(ANSWER), JSON,
    says("azure", (12, 47), **C1), {"model": "m-1"})  # fmt: skip
WORKERS = "/client/v4/accounts/a/ai/run/@cf/meta/m-1"
add("workers ai", "api.cloudflare.com", WORKERS,
    whole({"result": {"response": "a", "usage": counts(15, 16)}, "success": True, "errors": [], "messages": []}), JSON,
    says("cloudflare", (15, 16), "@cf/meta/m-1"))  # fmt: skip
add("workers ai stream", "api.cloudflare.com", WORKERS,
    sse({"response": "a"}, {"response": "b"}, {"response": "", "usage": counts(15, 16)}, done=True), SSE,
    says("cloudflare", (15, 16), "@cf/meta/m-1", streamed=True), done=True)  # fmt: skip
add("workers ai without counts", "api.cloudflare.com", WORKERS, whole({"result": {"data": [[0.1]]}, "success": True}),
    JSON, says("cloudflare", None, "@cf/meta/m-1"))  # fmt: skip
