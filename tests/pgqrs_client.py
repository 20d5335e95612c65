# SPDX-License-Identifier: Apache-2.0
"""A program that uses pgqrs' own Python client, for tests/it_pgqrs_client.c: does one thing to the
database that PGQRS_DSN and PGQRS_SCHEMA name, and prints what came of it, numbers in order."""
import asyncio
import json
import os
import sys

import pgqrs


async def install(store):
    await pgqrs.admin(store).install()


async def verify(store):
    await pgqrs.admin(store).verify()


async def queue(store, name):
    return [(await store.queue(name)).id]


async def enqueue(store, name, count):
    producer = await store.producer(name)
    return [await producer.enqueue({"n": n, "ms": 1}) for n in range(int(count))]


async def batch(store, name, count):
    return await pgqrs.produce_batch(store, name, [{"n": n} for n in range(int(count))])


async def delayed(store, name, seconds):
    producer = await store.producer(name)
    return [await producer.enqueue_delayed({"say": "hello"}, int(seconds))]


async def archived(store, queue_id):
    messages = await (await store.get_messages()).list_archived_by_queue(int(queue_id))
    assert all(m.archived_at and m.dequeued_at and m.payload is not None for m in messages)
    return sorted(m.id for m in messages)


async def share(store, name, queue_id, count):
    """Leases and archives beside others, until so many are archived."""
    consumer = await store.consumer(name)
    while len(await archived(store, queue_id)) < int(count):
        for message in await consumer.dequeue(batch_size=1):
            assert await consumer.archive(message.id)
            print(message.id, flush=True)
        await asyncio.sleep(0.005)


async def lease(store, name):
    """One, and leaves it leased."""
    consumer = await store.consumer(name)
    return [m.id for m in await consumer.dequeue(batch_size=1)]


async def settle(store, name):
    """The ways in which a consumer can end what it has leased."""
    consumer = await store.consumer(name)
    kept, gone, back = [m.id for m in await consumer.dequeue(batch_size=3)]
    assert await consumer.extend_vt(kept, 60)
    assert await consumer.archive(kept)
    assert await consumer.delete(gone)
    assert await consumer.release_messages([back]) == 1
    assert not await consumer.archive(back)
    return [kept, gone, back]


async def workflow(store, name):
    await pgqrs.workflow().name(name).store(store).create()


async def trigger(store, name, data):
    """Starts a run and waits for its result."""
    definition = pgqrs.workflow().name(name).store(store)
    message = await definition.trigger(json.loads(data)).execute()
    result = pgqrs.run().message(message).store(store).result()
    return [message.id, await asyncio.wait_for(result, 30)]


async def begin(store, name, data, step, result):
    """Starts a run, stores its first step, and gives its message back."""
    definition = pgqrs.workflow().name(name).store(store)
    message = await definition.trigger(json.loads(data)).execute()
    consumer = await store.consumer(name)
    assert [m.id for m in await consumer.dequeue(batch_size=1)] == [message.id]
    run = await pgqrs.run().message(message).store(store).execute()
    await run.start()
    taken = await pgqrs.step().run(run).name(step).execute()
    assert taken.status == pgqrs.StepResultStatus.Execute
    await taken.guard.success(json.loads(result))
    assert await consumer.release_messages([message.id]) == 1
    return [message.id]


async def steps(store):
    every = await (await store.get_workflow_steps()).list()
    return [step.step_name for step in every]


async def workers(store):
    """Those that work, and have a queue: ephemeral ones and those that have stopped left out."""
    every = await (await store.get_workers()).list()
    return sorted({str(w.status) for w in every if w.queue_id is not None})


async def main():
    config = pgqrs.Config(os.environ["PGQRS_DSN"], schema=os.environ["PGQRS_SCHEMA"])
    config.max_enqueue_per_second = None
    store = await pgqrs.connect_with(config)
    for value in await globals()[sys.argv[1]](store, *sys.argv[2:]) or []:
        print(value if isinstance(value, (int, str)) else json.dumps(value))


asyncio.run(main())
sys.stdout.flush()
os._exit(0)  # threads of the client may abort the interpreter at its usual end
