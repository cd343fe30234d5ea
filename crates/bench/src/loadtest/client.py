"""A load of streamed completions by aiohttp, measured with the definitions of `vllm bench serve`.

    client.py PORT STREAMS REQUESTS TOKENS

A request's clock starts before aiohttp is asked to post; a token has the time at which its chunk
reached the program. Prints one JSON object.
"""

import asyncio
import json
import sys
import time

import aiohttp

PORT, STREAMS, REQUESTS, TOKENS = map(int, sys.argv[1:5])
URL = f"http://127.0.0.1:{PORT}/v1/completions"


class Answer:
    def __init__(self):
        self.ttft = 0.0
        self.latency = 0.0
        self.gaps = []
        self.tokens = 0


async def ask(session):
    answer = Answer()
    body = {
        "model": "reference",
        "prompt": "one two three four",
        "max_tokens": TOKENS,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start = last = time.perf_counter()
    async with session.post(URL, json=body) as response:
        response.raise_for_status()
        rest = ""
        async for piece in response.content.iter_any():
            rest += piece.decode()
            while "\n\n" in rest:
                event, rest = rest.split("\n\n", 1)
                data = event.removeprefix("data: ")
                if data == "[DONE]":
                    continue
                message = json.loads(data)
                if message.get("choices"):
                    now = time.perf_counter()
                    if answer.ttft == 0.0:
                        answer.ttft = now - start
                    else:
                        answer.gaps.append(now - last)
                    last = now
                elif usage := message.get("usage"):
                    answer.tokens = usage["completion_tokens"]
    answer.latency = last - start
    return answer


async def run():
    limit = asyncio.Semaphore(STREAMS)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def limited():
            async with limit:
                return await ask(session)

        start, cpu = time.perf_counter(), time.process_time()
        answers = await asyncio.gather(*(limited() for _ in range(REQUESTS)))
        return answers, time.perf_counter() - start, time.process_time() - cpu


def mean(values):
    return sum(values) / len(values)


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


answers, wall, cpu = asyncio.run(run())
tokens = sum(answer.tokens for answer in answers)
gaps = [gap for answer in answers for gap in answer.gaps]
tpots = [(a.latency - a.ttft) / (a.tokens - 1) for a in answers if a.tokens > 1]
print(
    json.dumps(
        {
            "ttft_ms": mean([answer.ttft for answer in answers]) * 1e3,
            "tpot_ms": mean(tpots) * 1e3,
            "itl_p99_ms": percentile(gaps, 99) * 1e3,
            "tokens_per_second": tokens / wall,
            "cpu_us_per_token": cpu * 1e6 / tokens,
        }
    )
)
