"""The faults: each knows what it hits, how to do it, and how to undo it. All are drawn from a seeded random generator.

`holds` names what a fault has in its hands while it lasts; two faults never hold the same thing.
"""

import asyncio
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from carafe import Client, Unavailable
from carafe.jobs.identifiers import uuid7
from carafe.jobs.queue_name import QUEUE
from carafe.queue.hints import Hint, encode, stamp_of
from chaos import failover
from chaos.processes import Place
from chaos.world import World


class Fault(ABC):
    """One fault. `seconds`: how long it lasts before it is undone."""

    weight: ClassVar[float] = 1.0

    def __init__(self, seconds: float, *holds: str) -> None:
        self.seconds = seconds
        self.holds = frozenset(holds)

    @classmethod
    @abstractmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        """A fault of this kind for a world of this many workers and web processes."""

    @abstractmethod
    async def do(self, world: World) -> None:
        """Break it."""

    async def undo(self, world: World) -> None:
        """Mend it; nothing, for what passes by itself."""
        return

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(sorted(self.holds))}; {self.seconds:.1f} s)"


class _OfPlace(Fault):
    """A fault of one process, by its name."""

    def __init__(self, seconds: float, name: str) -> None:
        super().__init__(seconds, name)
        self.name = name

    def place(self, world: World) -> Place:
        """The process."""
        return next(place for place in world.places if place.name == self.name)


class KillWorker(_OfPlace):
    """SIGKILL to a worker's process group."""

    weight = 2.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.uniform(0.2, 5), f"worker-{rng.randrange(workers)}")

    async def do(self, world: World) -> None:
        await asyncio.to_thread(self.place(world).kill)

    async def undo(self, world: World) -> None:
        self.place(world).start()


class KillWeb(KillWorker):
    """SIGKILL to a web process, which may carry the steward."""

    weight = 1.5

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.uniform(0.2, 4), f"web-{rng.randrange(webs)}")


class FreezeWorker(_OfPlace):
    """SIGSTOP to a worker's process, SIGCONT later: at times after it was declared lost."""

    weight = 2.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.choice((1.0, 3.0, 6.0, 18.0, 26.0)), f"worker-{rng.randrange(workers)}")

    async def do(self, world: World) -> None:
        self.place(world).signal(signal.SIGSTOP)

    async def undo(self, world: World) -> None:
        self.place(world).signal(signal.SIGCONT)


class FreezeWeb(FreezeWorker):
    """SIGSTOP to a web process, steward and all."""

    weight = 1.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.choice((1.0, 4.0, 12.0)), f"web-{rng.randrange(webs)}")


class DrainWorker(_OfPlace):
    """SIGTERM to a worker with a replacement beside it, as in a rollout."""

    weight = 2.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(0.0, f"worker-{rng.randrange(workers)}")

    async def do(self, world: World) -> None:
        place = self.place(world)
        if place.running:
            await world.roll(place)


class RollWeb(DrainWorker):
    """SIGTERM to a web process with a replacement beside it."""

    weight = 0.7

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(0.0, f"web-{rng.randrange(webs)}")


class _OfServers(Fault):
    """A fault of a server."""


class FlushRedis(_OfServers):
    """FLUSHALL."""

    weight = 1.5

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(0.0, "redis")

    async def do(self, world: World) -> None:
        async with Redis.from_url(world.valkey.url, socket_timeout=5) as redis:
            await redis.flushall()


class RestartRedis(_OfServers):
    """Redis stops, or dies, and comes back with what it had synced."""

    weight = 1.5

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        fault = cls(rng.choice((0.1, 0.5, 2.0, 6.0)), "redis")
        fault.crash = rng.random() < 0.5
        return fault

    crash = True

    async def do(self, world: World) -> None:
        await asyncio.to_thread(world.valkey.crash if self.crash else world.valkey.stop)

    async def undo(self, world: World) -> None:
        await asyncio.to_thread(world.valkey.restart_on_the_same_port)


class RewindRedis(RestartRedis):
    """Redis comes back with the append-only file of some seconds ago: old hints, and newer ones gone."""

    weight = 1.0

    async def undo(self, world: World) -> None:
        await asyncio.to_thread(world.valkey.go_back)
        await super().undo(world)


class DemoteRedis(_OfServers):
    """Redis becomes the replica of a primary that nobody reaches, and a primary again, as in a failover and back: it ends
    the pops that wait with an error, and refuses every write."""

    weight = 1.5

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.choice((0.1, 1.0, 4.0, 8.0)), "redis")

    async def do(self, world: World) -> None:
        async with Redis.from_url(world.valkey.url, socket_timeout=5) as redis:
            await redis.replicaof("127.0.0.1", "1")

    async def undo(self, world: World) -> None:
        async with Redis.from_url(world.valkey.url, socket_timeout=5) as redis:
            await redis.replicaof("NO", "ONE")


class UnblockPops(_OfServers):
    """Redis ends every pop that waits with an error."""

    weight = 1.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(0.0, "redis")

    async def do(self, world: World) -> None:
        async with Redis.from_url(world.valkey.url, socket_timeout=5) as redis:
            for client in await redis.client_list():
                if client["cmd"] == "blmpop":
                    await redis.client_unblock(int(client["id"]), error=True)


class FillRedis(_OfServers):
    """Redis is full, and has room again."""

    weight = 0.7

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.choice((0.5, 3.0, 6.0)), "redis")

    async def do(self, world: World) -> None:
        async with Redis.from_url(world.valkey.url, socket_timeout=5) as redis:
            await redis.config_set("maxmemory", 1)

    async def undo(self, world: World) -> None:
        async with Redis.from_url(world.valkey.url, socket_timeout=5) as redis:
            await redis.config_set("maxmemory", 0)


class RestartPostgres(_OfServers):
    """Postgres shuts down, or crashes, and recovers."""

    weight = 1.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        fault = cls(rng.choice((0.1, 1.0, 4.0)), "postgres")
        fault.crash = rng.random() < 0.6
        return fault

    crash = True

    async def do(self, world: World) -> None:
        await asyncio.to_thread(world.postgres.crash if self.crash else world.postgres.stop)

    async def undo(self, world: World) -> None:
        await asyncio.to_thread(world.postgres.restart_on_the_same_port)


class TerminateBackends(_OfServers):
    """pg_terminate_backend for every connection."""

    weight = 1.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(0.0, "postgres")

    async def do(self, world: World) -> None:
        async with world.truth() as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and backend_type = 'client backend'"
            )


class DemotePostgres(_OfServers):
    """Postgres is demoted: sessions stay open and may not write; then new ones may, and those of before still may not."""

    weight = 2.0

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.choice((0.0, 1.0, 4.0, 10.0)), "postgres")

    async def do(self, world: World) -> None:
        await failover.demote(world.postgres.url)

    async def undo(self, world: World) -> None:
        await failover.promote(world.postgres.url)
        # Their file is read as soon as they are told; a later fault may restart the server, which reads it too.
        await asyncio.sleep(1)
        await failover.forget(world.postgres.url)


class NoisyHints(_OfServers):
    """Hints of jobs that are queued, running, ended or were never there, some twice, and messages that are not hints."""

    weight = 1.5

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(0.0, "redis", "postgres")

    async def do(self, world: World) -> None:
        async with world.truth() as connection:
            live = await connection.fetch(
                "select id, kind, coalesce(hinted_at, due_at) as at from carafe.jobs"
                " order by state = 'running' desc limit 100"
            )
            ended = await connection.fetch(
                "select id, kind, ended_at as at from carafe.jobs_ended order by ended_at desc limit 20"
            )
        hints = [encode(Hint(UUID(str(row["id"])), row["kind"], stamp_of(row["at"]))) for row in (*live, *live, *ended)]
        hints += [
            encode(Hint(uuid7(), "chaos.plain", 1)),
            encode(Hint(uuid7(), "chaos.nobody", 1)),
            b"{}",
            b"\xff\x00no",
            b"",
        ]
        async with Redis.from_url(world.valkey.url, socket_timeout=5) as redis:
            # At the end that is popped next, so that they meet the jobs while these run.
            await redis.rpush(QUEUE, *hints)


class PauseQueue(_OfServers):
    """An operator pauses the queue, and resumes it."""

    weight = 0.7

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        return cls(rng.uniform(2, 5), "postgres")

    async def do(self, world: World) -> None:
        async with Client.connect(database_url=world.postgres.url, redis_url=world.redis_url, pool_size=1) as client:
            await client.pause(reason="chaos")

    async def undo(self, world: World) -> None:
        async with Client.connect(database_url=world.postgres.url, redis_url=world.redis_url, pool_size=1) as client:
            await client.resume()


class _OfLink(Fault):
    """A fault of the network between one process and one server."""

    def __init__(self, seconds: float, process: str, server: str) -> None:
        super().__init__(seconds, f"{process}-{server}")
        self.process, self.server = process, server

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        processes = [f"worker-{number}" for number in range(workers)] * 2
        processes += [f"web-{number}" for number in range(webs)] + ["client-0"]
        return cls(rng.choice((0.5, 2.0, 5.0, 9.0, 24.0)), rng.choice(processes), rng.choice(("postgres", "redis")))

    async def undo(self, world: World) -> None:
        world.link(self.process, self.server).heal()


class CutLink(_OfLink):
    """Connections end, and new ones at once."""

    weight = 2.0

    async def do(self, world: World) -> None:
        world.link(self.process, self.server).cut()


class StallLink(_OfLink):
    """A black hole: nothing passes, nothing ends."""

    weight = 2.0

    async def do(self, world: World) -> None:
        world.link(self.process, self.server).stall()


class SlowLink(_OfLink):
    """Each packet takes long."""

    weight = 1.5

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        fault = super().draw(rng, workers, webs)
        assert isinstance(fault, SlowLink)
        fault.delay = rng.choice((0.05, 0.3, 1.5))
        return fault

    delay = 0.3

    async def do(self, world: World) -> None:
        world.link(self.process, self.server).slow(self.delay)


class LoseReplies(_OfLink):
    """What was asked for is done (committed, popped, pushed), and the answer never comes."""

    weight = 2.5

    @classmethod
    def draw(cls, rng: random.Random, workers: int, webs: int) -> "Fault":
        fault = super().draw(rng, workers, webs)
        fault.seconds = min(fault.seconds, 3.0)
        return fault

    async def do(self, world: World) -> None:
        world.link(self.process, self.server).lose_replies(3)


FAULTS: tuple[type[Fault], ...] = (
    *(KillWorker, KillWeb, FreezeWorker, FreezeWeb, DrainWorker, RollWeb),
    *(FlushRedis, RestartRedis, RewindRedis, RestartPostgres, DemotePostgres, TerminateBackends, NoisyHints, PauseQueue),
    *(DemoteRedis, UnblockPops, FillRedis),
    *(CutLink, StallLink, SlowLink, LoseReplies),
)

HARMLESS_ERRORS = (OSError, Unavailable, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a fault may meet when another one has hit first."""


def named(faults: Sequence[type[Fault]]) -> str:
    """The kinds in words."""
    return ", ".join(fault.__name__ for fault in faults)
