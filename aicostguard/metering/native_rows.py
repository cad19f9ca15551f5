"""Rows of the providers whose formats are their own.

Owns hosts and paths of Cohere, Hugging Face, Ollama, Replicate, watsonx and the like; the formats stand in modules of
their own. The first row of a name is the one that `providers.rules` gives. If a path is wrong, its calls are counted
as unrecognised, or a request that never bills makes a receipt.
"""

from __future__ import annotations

from typing import Tuple

from aicostguard.metering.provider import OPENAI_FORMATS, Path, Provider

#: Cohere's second version, also at clouds that serve its models
COHERE_V2 = (
    Path(r"/v2/chat\Z", "cohere_v2"),
    Path(r"/v[12]/embed\Z", "cohere_embeddings"),
    Path(r"/v2/rerank\Z", "cohere_rerank"),
)
_ZAI = (
    Path(r"/(async/chat/completions|videos/generations|async/images/generations)\Z", "zai_task"),
    Path(r"/async-result/(?P<id>[^/]+)\Z", "zai_task_get", "GET"),
    Path(r"/tokenizer\Z", ""),
)

NATIVE: Tuple[Provider, ...] = (
    Provider(
        "cohere",
        ("api.cohere.com", "api.cohere.ai", "*.api.cohere.com"),
        formats=("chat", "embeddings"),
        paths=(
            *(path._replace(anywhere=True) for path in COHERE_V2),
            Path(r"/v1/(chat|generate|summarize|classify)\Z", "cohere_v1"),
            Path(r"/v1/rerank\Z", "cohere_rerank"),
            Path(r"/(detokenize|check-api-key|datasets|connectors(/.*)?)\Z", ""),
        ),
        sdks=("cohere",),
        tells_usage=True,
        docs="https://docs.cohere.com/reference/chat",
    ),
    Provider(
        "huggingface",
        ("router.huggingface.co", "api-inference.huggingface.co"),
        paths=(
            Path(r"/pipeline/feature-extraction/(?P<model>.+)\Z", "unmeasured_embeddings"),
            Path(r"/models/(?P<model>.+)/pipeline/feature-extraction\Z", "unmeasured_embeddings"),
            Path(r"/models/(?P<model>.+)/pipeline/text-to-image\Z", "unmeasured_image"),
            Path(r"\A/replicate/v1/models/(?P<model>.+)/predictions\Z", "replicate"),
            # The tasks of HF Inference; what is served the way OpenAI serves it stands under …/v1/.
            Path(r"/models/(?P<model>(?:(?!/v1/|/pipeline/).)+)(/pipeline/[a-z-]+)?\Z", "tgi"),
        ),
        sdks=("huggingface_hub",),
        docs="https://huggingface.co/docs/inference-providers/tasks/chat-completion",
    ),
    # A dedicated endpoint serves one model, most often by text-generation-inference or text-embeddings-inference.
    Provider(
        "huggingface",
        ("*.endpoints.huggingface.cloud",),
        paths=(
            Path(r"\A/?\Z|/invocations\Z", "tgi"),
            Path(r"(?<!/api)(?<!/v1)/(generate|generate_stream)\Z", "tgi", anywhere=True),
            Path(r"/embed(_all|_sparse)?\Z", "unmeasured_embeddings"),
            Path(r"/rerank\Z", "unmeasured_rerank"),
        ),
        region=1,
        docs="https://huggingface.github.io/text-generation-inference/",
    ),
    Provider(
        "ollama",
        ("ollama.com",),
        within=("/api/", "/v1/"),
        paths=(
            Path(r"/api/(chat|generate)\Z", "ollama", anywhere=True),
            Path(r"/api/embed\Z", "ollama_embeddings", anywhere=True),
            Path(r"/api/embeddings\Z", "unmeasured_embeddings"),
            Path(r"/api/(pull|push|create|copy|show|delete|blobs/.*|me|signout)\Z", ""),
        ),
        # Where Ollama listens unless it is told otherwise: https://docs.ollama.com/faq
        ports=(11434,),
        sdks=("ollama",),
        docs="https://docs.ollama.com/api/usage",
    ),
    Provider(
        "replicate",
        ("api.replicate.com",),
        formats=(),
        paths=(
            Path(r"/v1/(models|deployments)/(?P<model>[^/]+/[^/]+)/predictions\Z", "replicate"),
            Path(r"/v1/predictions\Z", "replicate"),
            Path(r"/v1/predictions/(?P<id>[^/]+)\Z", "replicate_get", "GET"),
            Path(r"/v1/predictions/(?P<id>[^/]+)/cancel\Z", "replicate_get"),
            Path(r"/v1/(trainings|deployments|models|webhooks)\b", ""),
        ),
        sdks=("replicate",),
        docs="https://replicate.com/docs/topics/predictions/lifecycle",
    ),
    Provider(
        "replicate",
        ("*.replicate.net", "stream.replicate.com"),
        formats=(),
        paths=(Path(r"/v1/(streams|files)/(?P<id>[^/]+)\Z", "replicate_stream", "GET"),),
        docs="https://replicate.com/docs/topics/predictions/streaming",
    ),
    Provider(
        "watsonx",
        ("*.ml.cloud.ibm.com", "*.wxai.ibm.com"),
        formats=("chat", "completions", "embeddings"),
        within=("/ml/",),
        paths=(
            Path(
                r"/ml/v1(-beta)?/(deployments/(?P<model>[^/]+)/)?(text/generation|generation/text)(_stream)?\Z",
                "watsonx",
                anywhere=True,
            ),
            Path(r"/ml/v1/(deployments/(?P<model>[^/]+)/)?text/chat(_stream)?\Z", "watsonx_chat", anywhere=True),
            Path(r"/ml/v1/text/embeddings\Z", "watsonx_embeddings", anywhere=True),
            Path(r"/ml/v1/text/rerank\Z", "rerank", anywhere=True),
            Path(r"/ml/v1/(deployments/(?P<model>[^/]+)/)?time_series/forecast\Z", "unmeasured"),
            Path(r"/ml/v1/text/tokenization\Z|\A/ml/v4/(?!deployments/[^/]+/ai_service)", ""),
        ),
        region=0,
        sdks=("ibm_watsonx_ai",),
        docs="https://cloud.ibm.com/apidocs/watsonx-ai#text-generation",
    ),
    Provider(
        "writer",
        ("api.writer.com",),
        formats=("chat", "completions"),
        paths=(
            Path(r"/v1/chat\Z", "chat"),
            Path(r"/v1/(applications/[^/]+|graphs/question|translation|vision)\Z", "unmeasured"),
            Path(r"/v1/graphs(/[^/]+(/file)?)?\Z", ""),
        ),
        sdks=("writerai",),
        docs="https://dev.writer.com/api-reference/completion-api/chat-completion",
    ),
    Provider(
        "voyage",
        ("api.voyageai.com", "ai.mongodb.com"),
        formats=("embeddings", "rerank"),
        paths=(Path(r"/v1/(multimodal|contextualized)embeddings\Z", "embeddings"),),
        sdks=("voyageai",),
        docs="https://docs.voyageai.com/reference/embeddings-api",
    ),
    Provider(
        "ai21",
        ("api.ai21.com",),
        formats=("chat",),
        sdks=("ai21",),
        tells_usage=True,
        docs="https://docs.ai21.com/reference/jamba-1-6-api-ref",
    ),
    Provider(
        "dashscope",
        (
            "dashscope.aliyuncs.com",
            "dashscope-intl.aliyuncs.com",
            "dashscope-us.aliyuncs.com",
            "*.dashscope.aliyuncs.com",
            "*.maas.aliyuncs.com",
        ),
        formats=(*OPENAI_FORMATS, "messages", "rerank"),
        paths=(
            Path(r"/services/aigc/(text|multimodal)-generation/generation\Z", "dashscope", anywhere=True),
            Path(r"/api/v1/apps/(?P<model>[^/]+)/completion\Z", "dashscope", anywhere=True),
            Path(r"/services/embeddings/", "dashscope_embeddings", anywhere=True),
            Path(r"/services/rerank/", "dashscope_rerank", anywhere=True),
            Path(r"/services/(aigc|audio)/", "dashscope_task", anywhere=True),
            Path(r"/api/v1/tasks/(?P<id>[^/]+)\Z", "dashscope_task_get", "GET"),
            Path(r"/api/v1/(tasks/[^/]+/cancel|uploads|fine-tunes|deployments|tokenizer)", ""),
        ),
        sdks=("dashscope",),
        docs="https://www.alibabacloud.com/help/en/model-studio/qwen-api-via-dashscope",
    ),
    Provider(
        "zai",
        ("api.z.ai",),
        formats=("chat", "embeddings", "messages", "rerank"),
        paths=_ZAI,
        sdks=("zai",),
        tells_usage=True,
        docs="https://docs.z.ai/api-reference/llm/chat-completion",
    ),
    # The same house in China, with prices of its own.
    Provider(
        "zhipuai",
        ("open.bigmodel.cn",),
        formats=("chat", "embeddings", "messages", "rerank"),
        paths=_ZAI,
        sdks=("zhipuai",),
        tells_usage=True,
        docs="https://docs.bigmodel.cn/cn/guide/start/model-overview",
    ),
    Provider(
        "sagemaker",
        ("runtime.sagemaker.*.amazonaws.com", "runtime-fips.sagemaker.*.amazonaws.com"),
        formats=(),
        paths=(
            Path(r"/endpoints/(?P<model>[^/]+)/invocations(-response-stream)?\Z", "sagemaker", anywhere=True),
            # What is invoked asynchronously is answered with the place of a file.
            Path(r"/endpoints/[^/]+/async-invocations\Z", ""),
        ),
        region=2,
        docs="https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html",
    ),
    Provider(
        "cloudflare",
        ("api.cloudflare.com",),
        formats=(),
        within=("/client/v4/accounts/",),
        paths=(
            Path(r"/ai/v1/chat/completions\Z", "chat"),
            Path(r"/ai/v1/completions\Z", "completions"),
            Path(r"/ai/v1/embeddings\Z", "embeddings"),
            Path(r"/ai/v1/responses\Z", "responses"),
            Path(r"/ai/run/(?P<model>@.+)\Z", "cloudflare"),
            # The host serves all of Cloudflare.
            Path("", ""),
        ),
        docs="https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/",
    ),
    Provider(
        "aleph-alpha",
        ("api.aleph-alpha.com",),
        formats=("chat", "embeddings"),
        paths=(
            Path(r"\A/(complete|evaluate|explain|qa|summarize)\Z", "aleph_alpha"),
            Path(r"\A/(embed|semantic_embed|batch_semantic_embed|instructable_embed)\Z", "aleph_alpha_embeddings"),
            Path(r"\A/detokenize\Z", ""),
        ),
        docs="https://docs.aleph-alpha.com/api/complete/",
    ),
)
