# ruff: noqa: E501
"""Images, audio, video, documents: bodies written by hand from the providers' documents, with what each bills."""

from __future__ import annotations

from tests.metering.building import JSON, SSE, add, counts, says, sse, void, whole

OPENAI = "api.openai.com"
PNG = "iVBORw0KGgoAAAANSUhEUg" * 200
IMAGE_USAGE = {
    "total_tokens": 1100,
    "input_tokens": 100,
    "output_tokens": 1000,
    "input_tokens_details": {"text_tokens": 40, "image_tokens": 60},
}
IMAGE_SAID = {"operation": "image", "input_image_tokens": 60}

# --- images: https://developers.openai.com/api/reference/resources/images --------------------------------------
add(
    "openai image, one large", OPENAI, "/v1/images/generations",
    whole({"created": 1, "background": "opaque", "data": [{"b64_json": PNG}], "size": "1024x1024", "usage": IMAGE_USAGE}), JSON,
    says("openai", (100, 1000), "gpt-image-2", output_image_tokens=1000, **IMAGE_SAID), request={"model": "gpt-image-2", "prompt": "a cat"},
)  # fmt: skip
add(
    "openai image edit, text in the output", OPENAI, "/v1/images/edits",
    whole({"created": 1, "data": [{"b64_json": "aGk="}], "usage": {**IMAGE_USAGE, "output_tokens_details": {"text_tokens": 150, "image_tokens": 850}}}), JSON,
    says("openai", (100, 1000), "gpt-image-1.5", output_image_tokens=850, **IMAGE_SAID), request={"model": "gpt-image-1.5"},
)  # fmt: skip
add(
    "openai image, billed by the image", OPENAI, "/v1/images/variations",
    whole({"created": 1, "data": [{"url": "https://x/1"}, {"url": "https://x/2"}]}), JSON,
    says("openai", (0, 0), "dall-e-2", operation="image", images=2, input_tokens=None, output_tokens=None), request={"model": "dall-e-2", "n": 2},
)  # fmt: skip
add(
    "openai vector image", OPENAI, "/v1/images/generations",
    whole({"created": 1, "data": [{"b64_json": "aGk="}], "usage": IMAGE_USAGE, "svg_usage": {"model": "gpt-5-mini", "input_tokens": 9, "output_tokens": 20, "reasoning_tokens": 5, "total_tokens": 29}}), JSON,
    (
        *says("openai", (100, 1000), "gpt-image-2", output_image_tokens=1000, **IMAGE_SAID),
        *says("openai", (9, 20), "gpt-5-mini", operation="image", reasoning_output_tokens=5),
    ),
    request={"model": "gpt-image-2", "output_format": "svg"},
)  # fmt: skip
add(
    "openai image stream", OPENAI, "/v1/images/generations",
    sse(
        {"type": "image_generation.partial_image", "b64_json": PNG, "partial_image_index": 0},
        {"type": "image_generation.partial_image", "b64_json": PNG, "partial_image_index": 1},
        {"type": "image_generation.completed", "b64_json": PNG, "size": "1024x1024", "usage": IMAGE_USAGE},
        names=True,
    ),
    SSE, says("openai", (100, 1000), "gpt-image-2", output_image_tokens=1000, streamed=True, **IMAGE_SAID),
    request={"model": "gpt-image-2", "stream": True, "partial_images": 2},
)  # fmt: skip
add(
    "openai image edit stream of two", OPENAI, "/v1/images/edits",
    sse(*[{"type": "image_edit.completed", "b64_json": "aGk=", "usage": IMAGE_USAGE}] * 2, names=True),
    SSE, says("openai", (200, 2000), "gpt-image-2", output_image_tokens=2000, operation="image", input_image_tokens=120, streamed=True, mismatch=True),
    request={"model": "gpt-image-2", "stream": True},
)  # fmt: skip
add(
    "openai image stream, refused", OPENAI, "/v1/images/generations",
    sse({"type": "error", "error": {"type": "image_generation_user_error", "code": "moderation_blocked", "message": "no"}}, names=True),
    SSE, (), request={"model": "gpt-image-2", "stream": True},
)  # fmt: skip
add(
    "azure image, the deployment names the model", "me.openai.azure.com", "/openai/deployments/my-image/images/generations",
    whole({"created": 1, "data": [{"b64_json": "aGk="}], "usage": IMAGE_USAGE}), JSON,
    says("azure", (100, 1000), "my-image", output_image_tokens=1000, **IMAGE_SAID),
)  # fmt: skip
add(
    "xai image, cost reported", "api.x.ai", "/v1/images/generations",
    whole({"data": [{"url": "https://x/1", "mime_type": "image/jpeg"}], "usage": {"cost_in_usd_ticks": 200000000}}), JSON,
    says("xai", (0, 0), "grok-2-image", operation="image", images=1, input_tokens=None, output_tokens=None, reported_cost_nanousd=20000000), request={"model": "grok-2-image"},
)  # fmt: skip
add(
    "fireworks image, the path names the model", "api.fireworks.ai",
    "/inference/v1/workflows/accounts/fireworks/models/flux-1-schnell-fp8/text_to_image",
    whole({"id": "i", "base64": ["aGk="], "finishReason": "SUCCESS"}), JSON,
    says("fireworks", None, "accounts/fireworks/models/flux-1-schnell-fp8", operation="image"), request={"prompt": "a cat"},
)  # fmt: skip

# --- transcripts: …/audio/subresources/transcriptions ----------------------------------------------------------
HEARD = {"model": "whisper-1"}
TOKENS = {
    "type": "tokens",
    "input_tokens": 114,
    "output_tokens": 31,
    "total_tokens": 145,
    "input_token_details": {"text_tokens": 14, "audio_tokens": 100},
}
add(
    "openai transcript, tokens", OPENAI, "/v1/audio/transcriptions", whole({"text": "hello", "usage": TOKENS}), JSON,
    says("openai", (114, 31), "gpt-4o-transcribe", operation="audio", input_audio_tokens=100), request={"model": "gpt-4o-transcribe"},
)  # fmt: skip
add(
    "openai transcript, seconds", OPENAI, "/v1/audio/transcriptions",
    whole({"text": 'a "duration" of time', "usage": {"type": "duration", "seconds": 9}}), JSON,
    says("openai", (0, 0), "whisper-1", operation="audio", audio_ms=9000, input_tokens=None, output_tokens=None), request=HEARD,
)  # fmt: skip
add(
    "openai transcript, verbose: the billed seconds, not the length", OPENAI, "/v1/audio/translations",
    whole({"task": "transcribe", "duration": 8.47, "text": "hi", "segments": [{"id": 0, "text": "x" * 3000}], "usage": {"type": "duration", "seconds": 9.0}}), JSON,
    says("openai", (0, 0), "whisper-1", operation="audio", audio_ms=9000, input_tokens=None, output_tokens=None), request=HEARD,
)  # fmt: skip
add(
    "groq transcript, verbose without usage", "api.groq.com", "/openai/v1/audio/transcriptions",
    whole({"task": "transcribe", "language": "English", "duration": 12.5, "text": "hi", "x_groq": {"id": "r"}}), JSON,
    says("groq", (0, 0), "whisper-large-v3", operation="audio", audio_ms=12500, input_tokens=None, output_tokens=None), request={"model": "whisper-large-v3"},
)  # fmt: skip
add(
    "openai subtitles", OPENAI, "/v1/audio/transcriptions",
    b"1\n00:00:00,000 --> 00:00:02,000\ndata: is what they say\n\n2\n00:00:02,000 --> 00:00:03,000\nbye\n\n", "text/plain",
    says("openai", None, "whisper-1", operation="audio"), request={**HEARD, "response_format": "srt"},
)  # fmt: skip
add(
    "openai transcript stream", OPENAI, "/v1/audio/transcriptions",
    sse(
        {"type": "transcript.text.delta", "delta": "he"}, {"type": "transcript.text.delta", "delta": "\"usage\""},
        {"type": "transcript.text.done", "text": "hello", "usage": TOKENS}, names=True, done=True,
    ),
    SSE, says("openai", (114, 31), "gpt-4o-transcribe", operation="audio", input_audio_tokens=100, streamed=True),
    request={"model": "gpt-4o-transcribe", "stream": True}, done=True,
)  # fmt: skip
HEARD_SAID = {"operation": "audio", "audio_ms": 4000}
add(
    "mistral transcript", "api.mistral.ai", "/v1/audio/transcriptions",
    whole({"model": "voxtral-mini-2602", "text": "hi", "language": "en", "usage": counts(4, 30, 430, prompt_audio_seconds=4, prompt_tokens_details={"audio_tokens": 4})}), JSON,
    says("mistral", (4, 30), "voxtral-mini-2602", mismatch=True, input_audio_tokens=4, **HEARD_SAID), request={"model": "voxtral-mini-latest"},
)  # fmt: skip
add(
    "mistral transcript stream", "api.mistral.ai", "/v1/audio/transcriptions",
    sse(
        {"type": "transcription.text.delta", "text": "hi"},
        {"type": "transcription.done", "model": "voxtral-mini-2602", "text": "hi", "usage": counts(400, 30, prompt_audio_seconds=4)}, names=True,
    ),
    SSE, says("mistral", (400, 30), "voxtral-mini-2602", streamed=True, **HEARD_SAID), request={"model": "voxtral-mini-latest", "stream": True},
)  # fmt: skip

# --- speech: …/audio/subresources/speech -----------------------------------------------------------------------
SPOKEN = {"model": "tts-1", "voice": "alloy", "input": "Grüße, world"}
add(
    "openai speech, sound", OPENAI, "/v1/audio/speech", b"ID3\x04\x00\n\n\xff\xfb\x90" * 300, "audio/mpeg",
    says("openai", (0, 0), "tts-1", operation="audio", characters=12, input_tokens=None, output_tokens=None), request=SPOKEN,
)  # fmt: skip
add(
    "openai speech, events", OPENAI, "/v1/audio/speech",
    sse(
        {"type": "speech.audio.delta", "audio": PNG},
        {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}, names=True,
    ),
    SSE, says("openai", (14, 101), "gpt-4o-mini-tts", operation="audio", streamed=True), request={**SPOKEN, "model": "gpt-4o-mini-tts", "stream_format": "sse"},
)  # fmt: skip
add(
    "mistral speech", "api.mistral.ai", "/v1/audio/speech", whole({"audio_data": PNG}), JSON,
    says("mistral", (0, 0), "voxtral-tts", operation="audio", characters=2, input_tokens=None, output_tokens=None), request={"model": "voxtral-tts", "input": "hi"},
)  # fmt: skip

# --- video: …/videos --------------------------------------------------------------------------------------------
JOB = {"id": "video_1", "object": "video", "model": "sora-2", "seconds": "8", "size": "720x1280", "progress": 0}
VIDEO = {"operation": "image", "video_ms": 8000, "response_id": "video_1", "input_tokens": None, "output_tokens": None}
add(
    "openai video, begun", OPENAI, "/v1/videos", whole({**JOB, "status": "queued"}), JSON,
    says("openai", (0, 0), "sora-2", pending=True, **VIDEO), request={"model": "sora-2"},
)  # fmt: skip
add(
    "openai video, polled and done", OPENAI, "/v1/videos/video_1", whole({**JOB, "status": "completed", "progress": 100}), JSON,
    says("openai", (0, 0), "sora-2", **VIDEO), method="GET",
)  # fmt: skip
add(
    "openai video, polled and failed", OPENAI, "/v1/videos/video_1", whole({**JOB, "status": "failed", "error": {"code": "x", "message": "y"}}), JSON, void("openai", "video_1", operation="image"), method="GET",
)  # fmt: skip
add(
    "xai video, begun", "api.x.ai", "/v1/videos/generations", whole({"request_id": "v1"}), JSON,
    says("xai", None, "grok-imagine-video", operation="image", response_id="v1", pending=True), request={"model": "grok-imagine-video", "duration": 5},
)  # fmt: skip
add(
    "veo, begun", "generativelanguage.googleapis.com", "/v1beta/models/veo-3.1-generate-preview:predictLongRunning",
    whole({"name": "models/veo-3.1-generate-preview/operations/o1"}), JSON,
    says("google", (0, 0), "veo-3.1-generate-preview", operation="image", video_ms=12000, input_tokens=None, output_tokens=None, response_id="models/veo-3.1-generate-preview/operations/o1", pending=True),
    request={"instances": [{"prompt": "a cat"}], "parameters": {"durationSeconds": 6, "sampleCount": 2}},
)  # fmt: skip
add(
    "veo, not done yet", "generativelanguage.googleapis.com", "/v1beta/models/veo-3.1-generate-preview/operations/o1",
    whole({"name": "models/veo-3.1-generate-preview/operations/o1"}), JSON,
    says("google", None, "veo-3.1-generate-preview", operation="image", response_id="models/veo-3.1-generate-preview/operations/o1", pending=True), method="GET",
)  # fmt: skip
add(
    "veo on vertex, done", "us-central1-aiplatform.googleapis.com",
    "/v1/projects/p/locations/us-central1/publishers/google/models/veo-3.1-generate-001:fetchPredictOperation",
    whole({"name": "projects/p/operations/o1", "done": True, "response": {"videos": [{"gcsUri": "gs://b/1.mp4", "mimeType": "video/mp4"}]}}), JSON,
    says("vertex", None, "veo-3.1-generate-001", operation="image", region="us-central1", response_id="projects/p/operations/o1"),
)  # fmt: skip
add(
    "veo, filtered", "generativelanguage.googleapis.com", "/v1beta/models/veo-3.1-generate-preview/operations/o1",
    whole({"name": "models/veo/operations/o1", "done": True, "response": {"generateVideoResponse": {"raiMediaFilteredCount": 1}}}), JSON,
    says("google", None, "veo-3.1-generate-preview", operation="image", response_id="models/veo/operations/o1", void=True), method="GET",
)  # fmt: skip
add(
    "imagen", "generativelanguage.googleapis.com", "/v1beta/models/imagen-4.0-generate-001:predict",
    whole({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": PNG}, {"raiFilteredReason": "no"}, {"mimeType": "image/png", "bytesBase64Encoded": "aGk="}]}), JSON,
    says("google", (0, 0), "imagen-4.0-generate-001", operation="image", images=2, input_tokens=None, output_tokens=None),
)  # fmt: skip

# --- documents, moderation --------------------------------------------------------------------------------------
add(
    "mistral document", "api.mistral.ai", "/v1/ocr",
    whole({"pages": [{"index": 0, "markdown": "x"}], "model": "mistral-ocr-2512", "usage_info": {"pages_processed": 1, "doc_size_bytes": 9}}), JSON,
    says("mistral", None, "mistral-ocr-2512"),
)  # fmt: skip
add(
    "mistral moderation", "api.mistral.ai", "/v1/chat/moderations",
    whole({"id": "m", "model": "mistral-moderation-2603", "results": [{"categories": {}}], "usage": counts(12, 0)}), JSON,
    says("mistral", (12, 0), "mistral-moderation-2603", operation="moderation"),
)  # fmt: skip
add(
    "mistral fill in the middle", "codestral.mistral.ai", "/v1/fim/completions",
    whole({"id": "f1", "object": "chat.completion", "model": "codestral-2508", "choices": [{"index": 0, "message": {"content": "x"}}], "usage": counts(8, 9)}), JSON,
    says("mistral", (8, 9), "codestral-2508", response_id="f1"),
)  # fmt: skip
TURN = {**counts(30, 9, 139), "connector_tokens": 100, "connectors": {"web_search": 2, "code_interpreter": 1}}
TURN_SAID = {"web_searches": 2, "tool_calls_billed": 1}
add(
    "mistral conversation", "api.mistral.ai", "/v1/conversations/conv_1",
    whole({"conversation_id": "conv_1", "object": "conversation.response", "outputs": [], "usage": TURN}), JSON,
    says("mistral", (130, 9), "mistral-medium-latest", **TURN_SAID), request={"model": "mistral-medium-latest", "inputs": "hi"},
)  # fmt: skip
add(
    "mistral conversation stream", "api.mistral.ai", "/v1/conversations",
    sse(
        {"type": "conversation.response.started", "conversation_id": "conv_1"}, {"type": "message.output.delta", "content": "x"},
        {"type": "conversation.response.done", "usage": TURN}, names=True,
    ),
    SSE, says("mistral", (130, 9), "mistral-medium-latest", streamed=True, **TURN_SAID), request={"model": "mistral-medium-latest", "inputs": "hi", "stream": True},
)  # fmt: skip
