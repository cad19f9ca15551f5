"""Google's SDKs of before, over REST: google-generativeai and vertexai.generative_models."""

from __future__ import annotations

from typing import Any

from tests.matrix.case import Url, case, environment

MODES = ("sync", "stream")


def generativeai_model(url: Url, mode: str) -> Any:
    import google.generativeai as genai

    genai.configure(api_key="x", transport="rest", client_options={"api_endpoint": url("google")})
    return genai.GenerativeModel("gemini-2.5-flash")


def asked(model: Any, mode: str) -> Any:
    if mode == "sync":
        return str(model.generate_content("hi"))
    return [str(chunk) for chunk in model.generate_content("hi", stream=True)]


case("google-generativeai.rest", generativeai_model, MODES, "google.generativeai")(asked)


def vertexai_model(url: Url, mode: str) -> Any:
    import google.oauth2.credentials
    import vertexai
    from vertexai.generative_models import GenerativeModel

    credentials = google.oauth2.credentials.Credentials(token="x")
    vertexai.init(
        project="p",
        location="us-central1",
        api_transport="rest",
        api_endpoint=url("vertex"),
        credentials=credentials,
    )
    return GenerativeModel("gemini-2.5-flash")


case("vertexai.generative_models", vertexai_model, MODES, "vertexai")(asked)

environment("google-generativeai-0.8.6-rest", ("google-generativeai==0.8.6",), ("google-generativeai.rest",))
environment("vertexai-2.7.0-rest", ("google-cloud-aiplatform==2.7.0",), ("vertexai.generative_models",))
