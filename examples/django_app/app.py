"""Django in one file. The feature of a call is the view that made it."""

import aicostguard.auto  # isort: skip  # the one line

import sys

import openai
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import JsonResponse
from django.urls import path

settings.configure(DEBUG=False, SECRET_KEY="only-an-example", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"])


def titles(request, topic):
    with aicostguard.labels(user=request.headers.get("X-User", "nobody")):
        answer = openai.OpenAI().chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": f"Five titles on {topic}"}]
        )
    return JsonResponse({"titles": answer.choices[0].message.content})


urlpatterns = [path("titles/<str:topic>", titles)]

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", *(sys.argv[1:] or ["8000"])])
