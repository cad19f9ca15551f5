"""Format → the row that reads it, loaded with the first response of that format.

Owns the list of formats and where each stands. A program that talks to one provider pays for one provider's module.
"""

from __future__ import annotations

from importlib import import_module
from typing import Dict, Optional

from aicostguard.metering.formats import Format

#: format → module of this package whose `FORMATS` holds its row
MODULES: Dict[str, str] = {
    "chat": "openai",
    "completions": "openai",
    "embeddings": "openai",
    "responses": "responses",
    "responses_get": "responses",
    "deleted": "responses",
    "messages": "anthropic",
    "generate": "gemini",
    "gemini_embeddings": "gemini",
    "vertex_predict": "gemini",
    "complete": "anthropic",
    "message_batch": "batches",
    "batch_file": "batches",
    "batch_job": "batches",
    "run": "assistants",
    "run_get": "assistants",
    "images": "media",
    "transcription": "media",
    "speech": "media",
    "video": "media",
    "video_get": "media",
    "interactions": "interactions",
    "interactions_get": "interactions",
    "video_job": "google_jobs",
    "video_job_get": "google_jobs",
    "gemini_batch": "google_jobs",
    "gemini_batch_file": "google_jobs",
    "ocr": "mistral",
    "conversation": "mistral",
    "moderation": "mistral",
    "deferred": "mistral",
    "cohere_v1": "cohere",
    "cohere_v2": "cohere",
    "cohere_embeddings": "cohere",
    "cohere_rerank": "rerank",
    "rerank": "rerank",
    "ollama": "ollama",
    "ollama_embeddings": "ollama",
    "tgi": "tgi",
    "replicate": "tasks",
    "replicate_get": "tasks",
    "replicate_stream": "tasks",
    "dashscope_task": "tasks",
    "dashscope_task_get": "tasks",
    "perplexity_task": "tasks",
    "perplexity_task_get": "tasks",
    "zai_task": "tasks",
    "zai_task_get": "tasks",
    "watsonx": "watsonx",
    "watsonx_chat": "watsonx",
    "watsonx_embeddings": "watsonx",
    "dashscope": "dashscope",
    "dashscope_embeddings": "dashscope",
    "dashscope_rerank": "dashscope",
    "sagemaker": "sagemaker",
    "cloudflare": "cloudflare",
    "aleph_alpha": "aleph_alpha",
    "aleph_alpha_embeddings": "aleph_alpha",
    "unmeasured": "unmeasured",
    "unmeasured_embeddings": "unmeasured",
    "unmeasured_image": "unmeasured",
    "unmeasured_rerank": "unmeasured",
    "converse": "bedrock",
    "bedrock_invoke": "bedrock_invoke",
    "bedrock_embeddings": "bedrock_invoke",
    "bedrock_agent": "bedrock_agents",
    "bedrock_flow": "bedrock_agents",
    "bedrock_answer": "bedrock_agents",
    "bedrock_untold": "bedrock_agents",
    "bedrock_rerank": "bedrock_agents",
    "bedrock_async": "bedrock_agents",
    "bedrock_guardrail": "bedrock_agents",
}

#: formats of results that any process may fetch: they bill when this one fetches them first. `Endpoint.id` names them
RESULTS = frozenset(("message_batch", "batch_file", "batch_job", "gemini_batch", "gemini_batch_file", "deferred"))

_rows: Dict[str, Format] = {}


def form(name: str) -> Optional[Format]:
    """The row of a format; None for a name that is none."""
    row = _rows.get(name)
    if row is None and name in MODULES:
        module = import_module("aicostguard.metering." + MODULES[name])
        _rows.update((each.name, each) for each in module.FORMATS)
        row = _rows[name]
    return row
