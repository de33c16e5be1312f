"""Load from within the cluster until /tmp/stop is there; LOAD is JSON: url, body, workers, seconds at most.

The last line is the report.

Half of the workers keep their connection, half open one for each request; they do not move in step. A request
is lost when it gets no complete 2xx answer.
"""

import asyncio
import collections
import json
import os
import pathlib
import random
import time

import aiohttp

ORDER = json.loads(os.environ["LOAD"])
END = time.monotonic() + ORDER["seconds"]
STOP = pathlib.Path("/tmp/stop")
lost, answered = collections.Counter(), collections.Counter()


def stopped():
    return time.monotonic() > END or STOP.exists()


async def ask(session):
    async with session.post(ORDER["url"], json=ORDER["body"]) as answer:
        text = await answer.text()
        if answer.status >= 300:
            raise RuntimeError(f"{answer.status} {text[:80]}")
        return json.loads(text)


async def work(keep):
    connector = aiohttp.TCPConnector(limit=1, force_close=not keep)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(90)) as session:
        await asyncio.sleep(random.random())
        while not stopped():
            try:
                body = await ask(session)
            except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
                lost[f"{type(error).__name__}: {error}"[:120]] += 1
                await asyncio.sleep(0.2)
            else:
                answered[f"{body['revision']} {body['pod']}"] += 1
            await asyncio.sleep(random.uniform(0, 2 * ORDER["pause"]))


async def main():
    os.write(1, b"started\n")
    await asyncio.gather(*(work(number % 2 == 0) for number in range(ORDER["workers"])))
    report = {"answered": sum(answered.values()), "lost": sum(lost.values()), "by": answered, "why": lost}
    os.write(1, json.dumps(report).encode() + b"\n")


asyncio.run(main())
