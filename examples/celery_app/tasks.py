"""Tasks that ask a model, in Celery's worker processes; the broker is a folder, so that nothing has to be installed."""

import aicostguard.auto  # isort: skip  # the one line

import os

import openai
from celery import Celery

app = Celery("tasks", broker="filesystem://")
folder = os.environ.get("QUEUE", "queue")
os.makedirs(folder, exist_ok=True)
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder}


@app.task
def summarise(text: str) -> str:
    answer = openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": f"Summarise: {text}"}]
    )
    return answer.choices[0].message.content or ""
