"""SDKs over gRPC: xAI's, google-generativeai's default transport, Vertex' generated clients."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import case, environment, is_async


@case("xai-sdk", lambda url, mode: url("grpc"), imports="xai_sdk")
def xai_sdk(target: Any, mode: str) -> Any:
    import xai_sdk as sdk
    from xai_sdk.chat import user

    given: Any = {"api_key": "x", "api_host": target, "use_insecure_channel": True}

    def chat(client: Any) -> Any:
        made = client.chat.create(model="grok-4")
        made.append(user("hi"))
        return made

    def seen(response: Any) -> Any:
        return [type(response).__name__, response.content, str(response.usage)]

    if not is_async(mode):
        client = sdk.Client(**given)
        try:
            if mode == "sync":
                return seen(chat(client).sample())
            return [(seen(response), piece.content) for response, piece in chat(client).stream()]
        finally:
            client.close()

    async def run() -> Any:
        client = sdk.AsyncClient(**given)
        try:
            if mode == "async":
                return seen(await chat(client).sample())
            return [(seen(response), piece.content) async for response, piece in chat(client).stream()]
        finally:
            await client.close()

    return asyncio.run(run())


@case("google-generativeai.grpc", lambda url, mode: url("grpc"), imports="google.generativeai")
def google_generativeai(target: Any, mode: str) -> Any:
    import google.generativeai as genai
    import grpc
    from google.ai.generativelanguage_v1beta.services import generative_service as service

    def model(transport: Any, client: Any) -> Any:
        made = genai.GenerativeModel("gemini-2.5-flash")
        setattr(made, "_async_client" if is_async(mode) else "_client", client(transport=transport))
        return made

    def seen(response: Any) -> Any:
        return [type(response).__name__, response.text, str(response.usage_metadata)]

    if not is_async(mode):
        from google.ai.generativelanguage_v1beta.services.generative_service.transports import grpc as threaded

        with grpc.insecure_channel(target) as channel:
            transport = threaded.GenerativeServiceGrpcTransport(channel=channel)
            made = model(transport, service.GenerativeServiceClient)
            if mode == "sync":
                return seen(made.generate_content("hi"))
            return [seen(chunk) for chunk in made.generate_content("hi", stream=True)]

    async def run() -> Any:
        from google.ai.generativelanguage_v1beta.services.generative_service.transports import grpc_asyncio as looped

        async with grpc.aio.insecure_channel(target) as channel:
            transport = looped.GenerativeServiceGrpcAsyncIOTransport(channel=channel)
            made = model(transport, service.GenerativeServiceAsyncClient)
            if mode == "async":
                return seen(await made.generate_content_async("hi"))
            return [seen(chunk) async for chunk in await made.generate_content_async("hi", stream=True)]

    return asyncio.run(run())


_NAME = "projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash"


@case("vertexai.gapic_grpc", lambda url, mode: url("grpc"), ("sync", "async", "stream"), "google.cloud.aiplatform_v1")
def vertexai_gapic(target: Any, mode: str) -> Any:
    import grpc
    from google.cloud import aiplatform_v1 as vertex
    from google.cloud.aiplatform_v1.services.prediction_service import transports

    content = vertex.Content(role="user", parts=[vertex.Part(text="hi")])
    request = vertex.GenerateContentRequest(model=_NAME, contents=[content])

    def seen(response: Any) -> Any:
        return [type(response).__name__, response.candidates[0].content.parts[0].text, str(response.usage_metadata)]

    if mode != "async":
        with grpc.insecure_channel(target) as channel:
            transport = transports.PredictionServiceGrpcTransport(channel=channel)
            client = vertex.PredictionServiceClient(transport=transport)
            if mode == "sync":
                return seen(client.generate_content(request))
            return [seen(chunk) for chunk in client.stream_generate_content(request)]

    async def run() -> Any:
        async with grpc.aio.insecure_channel(target) as channel:
            transport = transports.PredictionServiceGrpcAsyncIOTransport(channel=channel)
            client = vertex.PredictionServiceAsyncClient(transport=transport)
            return seen(await client.generate_content(request))

    return asyncio.run(run())


environment("xai-sdk-1.21.0", ("xai-sdk==1.21.0",), ("xai-sdk",), True)
environment("google-generativeai-0.8.6", ("google-generativeai==0.8.6",), ("google-generativeai.grpc",))
environment("vertexai-2.7.0", ("google-cloud-aiplatform==2.7.0",), ("vertexai.gapic_grpc",))
