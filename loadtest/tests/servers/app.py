"""A little of vLLM's API as an ASGI application: tokens 20 ms apart, the first after 40."""

import asyncio
import json

FIRST, EACH = 0.04, 0.02


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break

    async def start(status, content_type):
        headers = [(b"content-type", content_type)]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(text, more=True):
        await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

    if scope["path"] != "/v1/completions":
        await start(404, b"application/json")
        await write('{"detail":"Not Found"}', more=False)
        return
    count = json.loads(body)["max_tokens"]
    await start(200, b"text/event-stream")
    for number in range(count):
        await asyncio.sleep(EACH if number else FIRST)
        reason = "length" if number + 1 == count else None
        choice = {"index": 0, "text": f" t{number}", "finish_reason": reason}
        await write(f"data: {json.dumps({'id': 'cmpl-1', 'choices': [choice]})}\n\n")
    usage = {"prompt_tokens": 3, "completion_tokens": count}
    await write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n", more=False)
