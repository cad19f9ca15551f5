# ruff: noqa: E501
"""Which requests are ours, whose they are, and which of them can never bill."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import pytest

from aicostguard.metering import UNRECOGNISED, Endpoint, recognise
from aicostguard.metering.providers import PROVIDERS

VERTEX = "/v1/projects/p/locations/europe-west4/publishers"


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("api.openai.com", "/v1/chat/completions", ("openai", "chat", None, None)),
        ("api.openai.com", "/v1/chat/completions/", ("openai", "chat", None, None)),
        ("us.api.openai.com", "/v1/responses", ("openai", "responses", None, "us")),
        ("api.openai.com", "/v1/responses/compact", ("openai", "responses", None, None)),
        ("api.openai.com", "/v1/completions", ("openai", "completions", None, None)),
        ("api.openai.com", "/v1/embeddings", ("openai", "embeddings", None, None)),
        ("a.openai.azure.com", "/openai/deployments/d-1/embeddings", ("azure", "embeddings", "d-1", None)),
        ("a.cognitiveservices.azure.com", "/openai/deployments/d/chat/completions", ("azure", "chat", "d", None)),
        ("a.services.ai.azure.com", "/models/chat/completions", ("azure", "chat", None, None)),
        ("a.openai.azure.com", "/openai/v1/responses", ("azure", "responses", None, None)),
        ("api.anthropic.com", "/v1/messages", ("anthropic", "messages", None, None)),
        ("api.anthropic.com", "/v1/chat/completions", ("anthropic", "chat", None, None)),
        ("generativelanguage.googleapis.com", "/v1beta/models/g:streamGenerateContent", ("google", "generate", "g", None)),
        ("generativelanguage.googleapis.com", "/v1beta/tunedModels/t-1:generateContent", ("google", "generate", "t-1", None)),
        ("generativelanguage.googleapis.com", "/v1beta/openai/embeddings", ("google", "embeddings", None, None)),
        ("aiplatform.googleapis.com", VERTEX + "/google/models/g:generateContent", ("vertex", "generate", "g", "europe-west4")),
        ("aiplatform.us.rep.googleapis.com", VERTEX + "/google/models/g:generateContent", ("vertex", "generate", "g", "europe-west4")),
        ("europe-west4-aiplatform.googleapis.com", VERTEX + "/anthropic/models/c%40001:rawPredict", ("vertex", "messages", "c@001", "europe-west4")),
        ("europe-west4-aiplatform.googleapis.com", VERTEX + "/mistralai/models/m:streamRawPredict", ("vertex", "chat", "m", "europe-west4")),
        ("europe-west4-aiplatform.googleapis.com", "/v1/projects/p/locations/l/endpoints/123:generateContent", ("vertex", "generate", "123", "l")),
        ("bedrock-runtime.us-east-1.amazonaws.com", "/model/anthropic.claude%3A0/invoke", ("bedrock", "bedrock_invoke", "anthropic.claude:0", "us-east-1")),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "/model/m-1/converse", ("bedrock", "converse", "m-1", "us-gov-west-1")),
        ("bedrock-runtime.eu-west-3.api.aws", "/model/m-1/converse-stream", ("bedrock", "converse", "m-1", "eu-west-3")),
        ("vpce-0a-b1.bedrock-runtime.us-east-1.vpce.amazonaws.com", "/model/m/invoke", ("bedrock", "bedrock_invoke", "m", "us-east-1")),
        ("bedrock-runtime.us-east-1.amazonaws.com", "/model/arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0/invoke-with-response-stream", ("bedrock", "bedrock_invoke", "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0", "us-east-1")),
        ("bedrock-agent-runtime.ap-south-1.amazonaws.com", "/agents/A/agentAliases/B/sessions/s/text", ("bedrock", "bedrock_agent", None, "ap-south-1")),
        ("bedrock-runtime.us-east-1.amazonaws.com", "/openai/v1/chat/completions", ("bedrock", "chat", None, "us-east-1")),
        ("bedrock-mantle.us-east-1.api.aws", "/anthropic/v1/messages", ("bedrock", "messages", None, "us-east-1")),
        ("api.groq.com", "/openai/v1/chat/completions", ("groq", "chat", None, None)),
        ("api.groq.com", "/openai/v1/responses", ("groq", "responses", None, None)),
        ("api.x.ai", "/v1/chat/completions", ("xai", "chat", None, None)),
        ("api.together.ai", "/v1/embeddings", ("together", "embeddings", None, None)),
        ("api.fireworks.ai", "/inference/v1/completions", ("fireworks", "completions", None, None)),
        ("api.perplexity.ai", "/chat/completions", ("perplexity", "chat", None, None)),
        ("api.perplexity.ai", "/v1/sonar", ("perplexity", "chat", None, None)),
        ("api.deepseek.com", "/anthropic/v1/messages", ("deepseek", "messages", None, None)),
        ("openrouter.ai", "/api/v1/chat/completions", ("openrouter", "chat", None, None)),
        ("ai-gateway.vercel.sh", "/v1/chat/completions", ("vercel", "chat", None, None)),
        ("api.mistral.ai", "/v1/agents/completions", ("mistral", "completions", None, None)),
        ("api.cohere.ai", "/compatibility/v1/embeddings", ("cohere", "embeddings", None, None)),
        ("router.huggingface.co", "/v1/chat/completions", ("huggingface", "chat", None, None)),
        ("eu.api.openai.com", "/v1/images/edits", ("openai", "images", None, "eu")),
        ("a.openai.azure.com", "/openai/deployments/d/audio/transcriptions", ("azure", "transcription", "d", None)),
        ("a.openai.azure.com", "/openai/threads/thread_1/runs", ("azure", "run", None, None)),
        ("api.groq.com", "/openai/v1/audio/speech", ("groq", "speech", None, None)),
        ("api.together.ai", "/v1/images/generations", ("together", "images", None, None)),
        ("europe-west4-aiplatform.googleapis.com", VERTEX + "/google/models/veo:predictLongRunning", ("vertex", "video_job", "veo", "europe-west4")),
        ("aiplatform.googleapis.com", "/v1beta1/projects/p/locations/global/interactions", ("vertex", "interactions", None, "global")),
        ("api.mistral.ai", "/v1/conversations/c/restart", ("mistral", "conversation", None, None)),
    ],
)  # fmt: skip
@pytest.mark.ids("B14", "G07")
def test_a_billed_request_is_known(host: str, path: str, expected: Tuple[Any, ...]) -> None:
    found = recognise("POST", host, 443, path)
    assert isinstance(found, Endpoint)
    assert (found.provider, found.format, found.url_model, found.region) == expected
    assert found.bills


@pytest.mark.parametrize(
    ("method", "host", "path"),
    [
        ("GET", "api.openai.com", "/v1/models"),
        ("GET", "api.openai.com", "/v1/chat/completions/c1"),
        ("GET", "api.openai.com", "/v1/responses/r/input_items"),
        ("DELETE", "api.openai.com", "/v1/files/f"),
        ("POST", "api.openai.com", "/v1/responses/input_tokens"),
        ("POST", "api.openai.com", "/v1/files"),
        ("POST", "api.openai.com", "/v1/batches"),
        ("POST", "api.openai.com", "/v1/moderations"),
        ("POST", "api.cloudflare.com", "/client/v4/accounts/a/workers/scripts"),
        ("POST", "api.openai.com", "/v1/vector_stores/v/search"),
        ("POST", "api.openai.com", "/v1/threads/thread_1/messages"),
        ("POST", "a.openai.azure.com", "/openai/v1/files"),
        ("POST", "api.anthropic.com", "/v1/messages/count_tokens"),
        ("POST", "api.anthropic.com", "/v1/messages/batches"),
        ("GET", "api.cerebras.ai", "/v1/tcp_warming"),
        ("POST", "generativelanguage.googleapis.com", "/v1beta/cachedContents"),
        ("POST", "generativelanguage.googleapis.com", "/v1alpha/auth_tokens"),
        ("POST", "generativelanguage.googleapis.com", "/v1/interactions/v1_a/auth_tokens"),
        ("POST", "generativelanguage.googleapis.com", "/v1beta/models/g:countTokens"),
        ("GET", "generativelanguage.googleapis.com", "/v1beta/models/g"),
        ("POST", "aiplatform.googleapis.com", VERTEX + "/anthropic/models/count-tokens:rawPredict"),
        ("POST", "aiplatform.googleapis.com", "/v1/projects/p/locations/l/customJobs"),
        ("OPTIONS", "api.openai.com", "/v1/chat/completions"),
        ("GET", "api.openai.com", "/v1/videos/v/content"),
        ("GET", "api.openai.com", "/v1/files/f"),
        ("GET", "api.openai.com", "/v1/batches/b"),
        ("GET", "api.openai.com", "/v1/threads/thread_1/runs/run_1/steps"),
        ("POST", "api.mistral.ai", "/v1/agents"),
        ("POST", "api.mistral.ai", "/v1/batch/jobs"),
        ("GET", "api.mistral.ai", "/v1/conversations/c"),
    ],
)
def test_a_known_request_that_never_bills_is_silent(method: str, host: str, path: str) -> None:
    found = recognise(method, host, 443, path)
    if found is UNRECOGNISED:
        pytest.fail("counted as unrecognised")
    assert isinstance(found, Endpoint)
    assert not found.bills


@pytest.mark.parametrize(
    ("method", "host", "path"),
    [
        ("POST", "api.openai.com", "/v2/something/new"),
        ("POST", "api.cohere.com", "/v1/embed-jobs"),
        ("POST", "api.replicate.com", "/v1/something"),
        ("POST", "bedrock-runtime.us-east-1.amazonaws.com", "/model/amazon.nova/invoke-with-bidirectional-stream"),
        ("POST", "generativelanguage.googleapis.com", "/v1beta/models/g:somethingNew"),
        ("POST", "api.mistral.ai", "/v1/something/new"),
    ],
)
def test_an_unknown_path_on_an_ai_host_is_counted(method: str, host: str, path: str) -> None:
    assert recognise(method, host, 443, path) is UNRECOGNISED


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("example.com", "/v1/chat/completions"),
        ("localhost", "/v1/chat/completions"),
        ("", "/"),
        ("com", "/v1/chat/completions"),
        ("openai.com", "/v1/chat/completions"),
        ("api.openai.com.evil.example", "/v1/chat/completions"),
        ("evil-api.openai.com", "/v1/chat/completions"),
        ("openai.azure.com", "/openai/deployments/d/chat/completions"),
        ("s3.us-east-1.amazonaws.com", "/model/anthropic.x/invoke"),
        ("vpce-0a.s3.us-east-1.vpce.amazonaws.com", "/model/anthropic.x/invoke"),
        # Control planes: what they start is billed elsewhere, or not visible.
        ("bedrock.us-east-1.amazonaws.com", "/model-invocation-job"),
        ("bedrock-agent.us-east-1.amazonaws.com", "/agents/"),
        ("storage.googleapis.com", "/v1beta/models/g:generateContent"),
        ("a.cognitiveservices.azure.com", "/vision/v3.2/analyze"),
        ("openrouter.ai", "/rankings"),
        ("huggingface.co", "/api/agent-harnesses"),
    ],
)
def test_other_hosts_are_none_of_ours(host: str, path: str) -> None:
    assert recognise("POST", host, 443, path) is None


def test_the_last_label_of_a_regional_host_is_no_subdomain_of_another() -> None:
    assert recognise("POST", "x.us.api.openai.com", 443, "/v1/responses") is not None
    assert recognise("POST", "notapi.openai.com", 443, "/v1/responses") is None


HOSTS = (
    ("127.0.0.1", 8001, "openai"),
    ("127.0.0.1", 8002, None),
    ("gateway.example", None, None),
    ("*.llm.example", None, "mistral"),
    ("llm-*.example", None, "groq"),
    ("api.openai.com", 8443, "custom"),
)


@pytest.mark.parametrize(
    ("host", "port", "path", "expected"),
    [
        ("127.0.0.1", 8001, "/v1/chat/completions", ("openai", "chat")),
        ("127.0.0.1", 8002, "/v1/chat/completions", ("custom", "chat")),
        ("127.0.0.1", 8002, "/v1/messages", ("anthropic", "messages")),
        ("127.0.0.1", 8002, "/v1beta/models/g:generateContent", ("google", "generate")),
        ("127.0.0.1", 8001, "/v1/messages", ("openai", "messages")),
        ("127.0.0.1", 8002, "/openai/deployments/d/chat/completions", ("azure", "chat")),
        ("127.0.0.1", 8002, "/model/anthropic.claude/invoke", ("bedrock", "bedrock_invoke")),
        ("127.0.0.1", 8002, "/model/amazon.nova/converse-stream", ("bedrock", "converse")),
        ("127.0.0.1", 8003, "/v1/chat/completions", None),
        ("gateway.example", 80, "/x/y/chat/completions", ("custom", "chat")),
        ("a.llm.example", 443, "/v1/chat/completions", ("mistral", "chat")),
        ("a.b.llm.example", 443, "/v1/chat/completions", ("mistral", "chat")),
        ("llm.example", 443, "/v1/chat/completions", None),
        ("llm-7.example", 443, "/v1/chat/completions", ("groq", "chat")),
        ("api.openai.com", 8443, "/v1/chat/completions", ("custom", "chat")),
        ("api.openai.com", 443, "/v1/chat/completions", ("openai", "chat")),
    ],
)
def test_hosts_that_the_user_named(host: str, port: int, path: str, expected: Optional[Tuple[str, str]]) -> None:
    found = recognise("POST", host, port, path, HOSTS)
    assert (None if found is None else (found.provider, found.format)) == expected  # type: ignore[union-attr]


def test_paths_that_others_have_too_are_bedrocks_at_bedrock_alone() -> None:
    for path in ("/agents/s", "/flows/f/aliases/a", "/async-invoke"):
        assert recognise("POST", "127.0.0.1", 8002, path, HOSTS) is UNRECOGNISED
        found = recognise("POST", "127.0.0.1", 8004, path, (("127.0.0.1", 8004, "bedrock"),))
        assert isinstance(found, Endpoint)
        assert (found.provider, found.bills) == ("bedrock", True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/model/m/count-tokens"),
        ("GET", "/async-invoke/arn%3Aaws"),
        ("POST", "/knowledgebases/k/retrieve"),
        ("POST", "/flows/f/aliases/a/executions"),
        ("PUT", "/sessions/"),
        ("DELETE", "/agents/a/agentAliases/b/memories"),
    ],
)
def test_what_bedrock_does_for_nothing_is_known(method: str, path: str) -> None:
    found = recognise(method, "bedrock-agent-runtime.us-east-1.amazonaws.com", 443, path)
    assert isinstance(found, Endpoint)
    assert not found.bills


def test_an_unknown_path_on_a_host_that_the_user_named_is_counted() -> None:
    assert recognise("POST", "gateway.example", 443, "/v1/telemetry", HOSTS) is UNRECOGNISED
    health = recognise("GET", "gateway.example", 443, "/health", HOSTS)
    assert isinstance(health, Endpoint)
    assert not health.bills


@pytest.mark.ids("B14")
def test_the_sdk_counts_only_for_hosts_that_nobody_knows() -> None:
    groq = recognise("POST", "api.groq.com", 443, "/openai/v1/chat/completions", (), "openai")
    assert isinstance(groq, Endpoint)
    assert groq.provider == "groq"
    unknown = recognise("POST", "llm.corp", 443, "/v1/chat/completions", (), "openai")
    assert isinstance(unknown, Endpoint)
    assert unknown.provider == "custom"
    claude = recognise("POST", "llm.corp", 443, "/v1/messages", (), "anthropic")
    assert isinstance(claude, Endpoint)
    assert claude.provider == "anthropic"
    assert recognise("POST", "llm.corp", 443, "/v1/chat/completions") is None


def test_a_host_belongs_to_one_row() -> None:
    hosts = [host for row in PROVIDERS for host in row.hosts]
    assert len(hosts) == len(set(hosts))
    assert all(row.docs.startswith("https://") for row in PROVIDERS)


def test_what_an_sdk_does_elsewhere_is_not_taken_for_an_ai_call() -> None:
    """Signing in at a host that nobody knows: silent. At the SDK's own custom host the format still decides."""
    assert recognise("POST", "login.example.com", None, "/tenant/oauth2/v2.0/token", (), "openai") is None
    assert recognise("POST", "oauth2.googleapis.com", None, "/token", (), "google.genai") is None
    found = recognise("POST", "llm.example.com", None, "/v1/chat/completions", (), "openai")
    assert isinstance(found, Endpoint)
    named = (("llm.example.com", None, None),)
    assert recognise("POST", "llm.example.com", None, "/v1/surprise", named, "openai") is UNRECOGNISED


SELF_HOSTED = (("gw.example", None, None),)


@pytest.mark.parametrize(
    ("host", "port", "path", "sdk", "expected"),
    [
        # Ollama listens on its port wherever it is.
        ("127.0.0.1", 11434, "/api/chat", None, ("ollama", "ollama")),
        ("gpu-box.lan", 11434, "/api/embeddings", None, ("ollama", "unmeasured_embeddings")),
        ("gpu-box.lan", 11434, "/v1/chat/completions", None, ("ollama", "chat")),
        ("gpu-box.lan", 11434, "/metrics", None, None),
        ("gpu-box.lan", 11435, "/api/chat", None, None),
        ("gpu-box.lan", 80, "/api/chat", "ollama", ("ollama", "ollama")),
        # A path that its provider alone has, at a host that the user named.
        ("gw.example", 443, "/x/api/generate", None, ("ollama", "ollama")),
        ("gw.example", 443, "/v2/chat", None, ("cohere", "cohere_v2")),
        ("gw.example", 443, "/ml/v1/text/chat", None, ("watsonx", "watsonx_chat")),
        ("gw.example", 443, "/v1/rerank", None, ("custom", "rerank")),
        ("gw.example", 443, "/v1/chat", None, False),
        # An SDK brings the paths of its provider, and no others.
        ("cohere.corp", 443, "/v1/chat", "cohere", ("cohere", "cohere_v1")),
        ("cohere.corp", 443, "/v1/rerank", "cohere", ("cohere", "cohere_rerank")),
        ("writer.corp", 443, "/v1/chat", "writerai", ("writer", "chat")),
        ("voyage.corp", 443, "/v1/embeddings", "voyageai", ("voyage", "embeddings")),
        ("cohere.corp", 443, "/v1/completions", "cohere", ("custom", "completions")),
        ("any.corp", 443, "/v1/chat", "openai", None),
        ("any.corp", 443, "/api/chat/completions", "openai", ("custom", "chat")),
        # A known host is its own provider's, whoever calls.
        ("api.writer.com", 443, "/v1/chat", "cohere", ("writer", "chat")),
    ],
)
@pytest.mark.ids("B14")
def test_formats_of_their_own_at_hosts_that_nobody_knows(
    host: str, port: int, path: str, sdk: Optional[str], expected: Any
) -> None:
    found = recognise("POST", host, port, path, SELF_HOSTED, sdk)
    if expected is False:
        assert found is UNRECOGNISED
    elif expected is None:
        assert found is None
    else:
        assert isinstance(found, Endpoint)
        assert (found.provider, found.format) == expected


def test_a_path_may_name_model_region_and_id() -> None:
    found = recognise("POST", "runtime.sagemaker.eu-west-1.amazonaws.com", 443, "/endpoints/a%2Db/invocations")
    assert found == Endpoint("sagemaker", "sagemaker", "a-b", True, "eu-west-1")
    found = recognise("GET", "stream-b.svc.rno2.c.replicate.net", 443, "/v1/files/s-1")
    assert found == Endpoint("replicate", "replicate_stream", None, True, None, "s-1")
    files = recognise("GET", "api.replicate.com", 443, "/v1/files/s-1")
    assert isinstance(files, Endpoint)
    assert not files.bills
