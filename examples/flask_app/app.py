"""A Flask app with a plain route and a streamed one. The feature of a call is the function that made it."""

import aicostguard.auto  # isort: skip  # the one line

import anthropic
from flask import Flask, Response, request

app = Flask(__name__)
claude = anthropic.Anthropic()


@app.post("/translate")
def translate():
    with aicostguard.labels(team=request.headers.get("X-Team", "none")):
        answer = claude.messages.create(
            model="claude-haiku-4-5",
            max_tokens=200,
            messages=[{"role": "user", "content": request.get_data(as_text=True)}],
        )
    return {"text": "".join(block.text for block in answer.content if block.type == "text")}


@app.get("/story")
def story():
    def words():
        asked = [{"role": "user", "content": "A very short story"}]
        with claude.messages.stream(model="claude-haiku-4-5", max_tokens=200, messages=asked) as stream:
            yield from stream.text_stream

    return Response(words(), mimetype="text/plain")
