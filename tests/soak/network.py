"""TCP proxies between one client and the members of the cluster, which make its network fail."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK = 64 * 1024
# No two chunks of a connection are due at once: timers that are keep no order.
STEP_S = 1e-6


class Way:
    """What happens to the bytes of one direction."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.swallows = False


class Network:
    """The way from one client to every member: a port each."""

    def __init__(self, ports: list[int]) -> None:
        self._targets = ports
        self._servers: list[asyncio.base_events.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.to_server, self.to_client = Way(), Way()
        self.refuses = False

    async def open(self) -> list[str]:
        """The endpoints, in the order of the members."""
        endpoints = []
        for target in self._targets:

            async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int = target) -> None:
                await self._link(reader, writer, target)

            server = await asyncio.start_server(link, "127.0.0.1", 0)
            self._servers.append(server)
            endpoints.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        return endpoints

    def cut(self) -> None:
        """Ends all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        """Nothing fails any more. What was swallowed doesn't come back, so connections that lack it are cut."""
        swallowed = self.to_server.swallows or self.to_client.swallows
        self.to_server, self.to_client = Way(), Way()
        self.refuses = False
        if swallowed:
            self.cut()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            if self.refuses:
                return
            answers, onward = await asyncio.open_connection("127.0.0.1", target)
            self._writers.add(onward)
            ways = [self._pass(reader, onward, "to_server"), self._pass(answers, writer, "to_client")]
            pumps = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # The member is down, or the soak is over: the client sees a connection that ends.
        finally:
            for end in (writer, onward):
                if end is not None:
                    end.transport.abort()
                    self._writers.discard(end)
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0

        def write(data: bytes) -> None:
            if not writer.is_closing():
                writer.write(data)

        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                way: Way = getattr(self, name)
                if way.swallows:
                    continue
                now = loop.time()
                due = max(now + way.delay_s, due + STEP_S)
                if due <= now + STEP_S:
                    write(data)
                    await writer.drain()
                else:
                    loop.call_at(due, write, data)
            # The end of the connection comes no sooner than what was said before it, and not at all while the way is dead.
            while getattr(self, name).swallows:
                await asyncio.sleep(0.1)
            await asyncio.sleep(max(0.0, due - loop.time()))
