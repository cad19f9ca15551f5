"""A handler of AWS Lambda: what it has spent leaves in one piece before it returns, for then the process is frozen."""

import aicostguard.auto  # isort: skip  # the one line

import openai

client = openai.OpenAI()


@aicostguard.flush_on_return
def handler(event, context):
    lines = []
    for question in event["questions"]:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": question}])
        lines.append(answer.choices[0].message.content)
    return {"statusCode": 200, "body": lines}


if __name__ == "__main__":  # what the platform does
    print(handler({"questions": ["Why?", "How?", "When?"]}, None)["statusCode"])
