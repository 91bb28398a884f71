"""procrastinate. `work URL CONCURRENCY` runs its asynchronous worker, `add URL` defers jobs. The orders are those of
bench.mjs."""

import asyncio
import json
import logging
import sys
import time

import procrastinate

FILLER = "x" * (1024 - 60)
what, url = sys.argv[1:3]
logging.disable(logging.CRITICAL)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=2, max_size=20))
waits, runs, first = [], 0, 0


def payload(sent):
    return {"sent": sent, "ref": "refs/heads/main", "filler": FILLER}


def say(value):
    print(json.dumps(value), flush=True)


@app.task(name="noop")
async def noop(sent, ref, filler):
    global runs, first
    at = time.monotonic_ns()
    first = first or at
    runs += 1
    if sent > 0:
        waits.append(at - sent)


async def orders():
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        yield line.decode().split()


async def work(concurrency):
    global runs, first
    worker = asyncio.create_task(app.run_worker_async(concurrency=concurrency, install_signal_handlers=False))
    say({"ready": True})
    async for order in orders():
        assert order == ["report"]
        say({"run": runs, "first_started": first, "waits": waits})
        waits.clear()
        runs = first = 0
    worker.cancel()


async def add():
    say({"ready": True})
    async for order, count, by in orders():
        count, by, began = int(count), int(by), time.monotonic_ns()
        if order == "feed":
            for done in range(0, count, by):
                await noop.batch_defer_async(*[payload(0) for _ in range(min(by, count - done))])
        else:
            start = time.monotonic()
            for done in range(count):
                await asyncio.sleep(max(0, start + done / by - time.monotonic()))
                await noop.defer_async(**payload(time.monotonic_ns()))
        say({"began": began, "ended": time.monotonic_ns()})


async def main():
    async with app.open_async():
        if what == "work":
            await work(int(sys.argv[3]))
        elif what == "schema":
            await app.schema_manager.apply_schema_async()
        else:
            await add()


asyncio.run(main())
