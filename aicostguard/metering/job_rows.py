"""Paths of work that is begun by one request and fetched by others: at hosts that follow OpenAI, and at Google.

Owns two tables of paths; what they bill, and how often, is said by their formats (`formats.RETRIEVALS`,
`table.RESULTS`).
"""

from __future__ import annotations

from typing import Tuple

from aicostguard.metering.provider import Path

#: https://developers.openai.com/api/reference (responses, threads, videos, files)
OPENAI_JOBS: Tuple[Path, ...] = (
    Path(r"/responses/[^/]+\Z", "responses_get", "GET"),
    Path(r"/responses/[^/]+/cancel\Z", "responses_get"),
    Path(r"/threads/(runs|[^/]+/runs(/[^/]+/submit_tool_outputs)?)\Z", "run"),
    Path(r"/threads/[^/]+/runs/[^/]+\Z", "run_get", "GET"),
    Path(r"/threads/[^/]+/runs/[^/]+/cancel\Z", "run_get"),
    Path(r"/videos(/generations|/edits|/extensions|/[^/]+/remix)?\Z", "video"),
    Path(r"/videos/(?!characters)[^/]+\Z", "video_get", "GET"),
    Path(r"/(responses|videos)/(?P<id>[^/]+)\Z", "deleted", "DELETE"),
    Path(r"/files/(?P<id>[^/]+)/content\Z", "batch_file", "GET"),
)
#: https://ai.google.dev/api/interactions-api, …/gemini-api/docs/video, …/gemini-api/docs/batch-api
GOOGLE_JOBS: Tuple[Path, ...] = (
    Path(r"/(interactions|decisions)\Z", "interactions", anywhere=True),
    Path(r"/interactions/(?!live\Z)[^/:]+\Z", "interactions_get", "GET", anywhere=True),
    Path(r"/interactions/[^/:]+/cancel\Z", "interactions_get", anywhere=True),
    Path(r"/interactions/(?P<id>[^/:]+)\Z", "deleted", "DELETE", anywhere=True),
    Path(r"/auth_tokens\Z", ""),
    Path(r"/models/(?P<model>[^/:]+):predictLongRunning\Z", "video_job", anywhere=True),
    Path(r"/models/(?P<model>[^/:]+)/operations/[^/:]+\Z", "video_job_get", "GET"),
    Path(r"/models/(?P<model>[^/:]+):fetchPredictOperation\Z", "video_job_get"),
    Path(r"/batches/(?P<id>[^/:]+)\Z", "gemini_batch", "GET"),
    Path(r"/download/[^/]+/files/(?P<id>[^/:]+):download\Z", "gemini_batch_file", "GET"),
)
#: https://platform.claude.com/docs/en/api/creating-message-batches
ANTHROPIC_JOBS: Tuple[Path, ...] = (
    Path(r"/messages/batches/(?P<id>[^/]+)/results\Z", "message_batch", "GET", anywhere=True),
    Path(r"/v1/complete\Z", "complete"),
)
#: https://docs.mistral.ai/api/. Fill-in-the-middle and agents end in /completions, as everybody's do
MISTRAL_PATHS: Tuple[Path, ...] = (
    Path(r"/v1/ocr\Z", "ocr"),
    Path(r"/v1/conversations(/[^/]+(/restart)?)?\Z", "conversation"),
    Path(r"/(moderations|classifications)\Z", "moderation"),
    Path(r"/batch/jobs/(?P<id>[^/]+)\Z", "batch_job", "GET"),
    Path(r"/(audio/(agents|sessions|voices)|batch/jobs|agents)(/|\Z)(?!completions)", ""),
)
#: https://docs.x.ai/docs/guides/deferred-chat-completions
XAI_PATHS: Tuple[Path, ...] = (Path(r"/chat/deferred-completion/(?P<id>[^/]+)\Z", "deferred", "GET"),)
#: https://docs.fireworks.ai/api-reference/generate-a-new-image-from-a-text-prompt
FIREWORKS_PATHS: Tuple[Path, ...] = (Path(r"/workflows/(?P<model>.+)/text_to_image\Z", "images"),)
