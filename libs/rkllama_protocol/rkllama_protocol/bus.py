"""The bus over nats-py: the only module that imports nats.

Three ways to talk, all of them at most once (core NATS):

    publish / subscribe      callbacks that only take note, called in the order of arrival
    request / answer         one reader answers at once, from memory
    request / serve          one task for each request; a failure travels back in the headers

A failure is carried as `Nats-Service-Error` and `Nats-Service-Error-Code` (NATS ADR-32), and raised
at the asking end as the error it was.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from nats.aio.client import DEFAULT_INBOX_PREFIX, Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, OutboundBufferLimitError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.protocol.parser import AUTHORIZATION_VIOLATION, PERMISSIONS_ERR

from rkllama_protocol import codec
from rkllama_protocol.access import OPEN, Access, BrokerRefusedError
from rkllama_protocol.errors import BY_CODE, RkllamaError, UnreachableError, from_wire
from rkllama_protocol.liveness import Liveness
from rkllama_protocol.messages import Message
from rkllama_protocol.permissions import inbox_prefix
from rkllama_protocol.repeating import Repeating

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"

RECONNECT_WAIT_S = 0.2
"""Between attempts; nats-py declares whole seconds, and only ever sleeps it."""
UNREACHED_S = 5.0
"""Between words on a broker that was never there; the first after as long, for it may start with this process."""
CANCEL_AGAIN_S = 0.02
FLUSH_S = 2.0
PING_S = 60
"""Longer than a connection lives whose broker says nothing: nats-py replaces it after two pings, 15 s."""
PENDING_BYTES = 32 * 2**20
"""What one subscription may hold back before nats-py drops messages and calls it a slow consumer."""


_REFUSED = "the broker refuses this process"
_QUOTED = re.compile(r'"([^"]+)"')


class Bus:
    """One connection. Use it as `async with await connect(...)`."""

    def __init__(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        self._client = client
        self._tasks = tasks
        self._closing = False
        self._on_reconnect: list[Callable[[], None]] = []
        self._is_up = False
        self._liveness = Liveness(self._ping, connected=self._is_connected, back=self._back)
        self._watching: asyncio.Task[None] | None = None
        self._repeating = Repeating()
        self._refused = asyncio.Event()
        self._address = ""
        self._told_at = monotonic()
        """When it was last said that the broker is not there."""
        self._forbidden: set[str] = set()
        """Subjects that the broker did not let this process use, in lower case as nats-py has them."""
        self.trouble = ""
        """What the broker last refused; for people."""

    @classmethod
    async def connect(
        cls, url: str, *, name: str, tasks: asyncio.TaskGroup, access: Access = OPEN
    ) -> Self:
        """Connect, waiting for a server that is not there yet; requests are served in `tasks`.

        Keeps on reconnecting for ever once connected: `connected` says how it is.

        Raises:
            BrokerRefusedError: A server is there, and does not let this process in.
        """
        client = Client()
        bus = cls(client, tasks)
        connecting = asyncio.ensure_future(bus._connect(url, name, access))
        refused = asyncio.ensure_future(bus._refused.wait())
        try:
            await asyncio.wait({connecting, refused}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise BrokerRefusedError(f"{_REFUSED}: {bus.trouble}")
            await connecting
        finally:
            refused.cancel()
            # nats-py waits with Python 3.11's `wait_for`, which can lose a cancellation: it is said again.
            while not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting}, timeout=CANCEL_AGAIN_S)
        bus._is_up = True
        bus._watching = tasks.create_task(bus._liveness.watch())
        return bus

    async def _connect(self, url: str, name: str, access: Access) -> None:
        known = access.credentials
        # Without a password that may stand in it.
        self._address = url.rpartition("@")[2]
        await self._client.connect(
            url,
            name=name,
            # A board and its broker start in any order, and either may restart.
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            # What was said while nobody listened is stale: it is said again after reconnecting.
            pending_size=0,
            error_cb=self._note_error,
            disconnected_cb=self._note_disconnect,
            reconnected_cb=self._note_reconnect,
            closed_cb=self._note_closed,
            user=known.user if known else None,
            password=known.password.get_secret_value() if known else None,
            inbox_prefix=inbox_prefix(known.user) if known else DEFAULT_INBOX_PREFIX,
            tls=access.tls,
            # TLS comes first, so that nobody between can talk a client out of it.
            tls_handshake_first=access.tls is not None,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
        await self._client.close()
        self._liveness.close()

    @property
    def connected(self) -> bool:
        """Whether the server is there and answers."""
        return self._client.is_connected and self._liveness.answers

    def _is_connected(self) -> bool:
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """The largest message the server takes, in bytes."""
        return self._client.max_payload

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the server is there again: what was said meanwhile was lost, or is late."""
        self._on_reconnect.append(callback)

    async def publish(self, subject: str, data: bytes) -> None:
        """Send to whoever listens. While disconnected the message is dropped."""
        if not self._client.is_connected:
            return
        try:
            await self._client.publish(subject, data)
        except NatsError as error:
            log.warning("publish failed", extra={"subject": subject, "reason": str(error)})

    async def say(self, subject: str, message: Message) -> None:
        """Publish a message."""
        await self.publish(subject, codec.encode(message))

    async def flush(self) -> None:
        """Wait until the server has everything sent so far, or has gone away."""
        if self._client.is_connected:
            await asyncio.wait({self._liveness.ping()}, timeout=FLUSH_S)

    async def _ping(self) -> bool:
        try:
            # `flush` says that all is well where nothing is read any more.
            await self._client.rtt(timeout=PING_S)
        except (NatsError, OSError, AssertionError, AttributeError, RuntimeError) as error:
            # What nats-py meets on a connection that ends: nothing has answered.
            log.debug("ping failed", extra={"reason": f"{type(error).__name__}: {error}"})
            return False
        return True

    async def request(
        self, subject: str, data: bytes, *, timeout_s: float, whom: str = ""
    ) -> bytes:
        """Ask, and return the answer's bytes; people are told of `whom` where nothing answers.

        Raises:
            UnreachableError: Nobody listens, or nobody answered in `timeout_s` seconds.
            RkllamaError: What the other end failed with.
        """
        try:
            msg = await self._request(subject, data, timeout_s)
        except NoRespondersError as error:
            gone = f"{whom} is not there" if whom else f"nobody answers on {subject}"
            raise UnreachableError(gone) from error
        except (NatsTimeoutError, TimeoutError) as error:
            if subject.lower() in self._forbidden:
                raise UnreachableError(f"the broker forbids this process {subject}") from error
            silent = f"{whom} did not answer" if whom else f"no answer on {subject}"
            raise UnreachableError(f"{silent} in {timeout_s:g} s") from error
        except OutboundBufferLimitError as error:
            raise UnreachableError("the broker is unreachable") from error
        except NatsError as error:
            raise UnreachableError(f"the broker is unreachable: {error}") from error
        if msg.headers and (code := msg.headers.get(ERROR_CODE)):
            raise from_wire(code, msg.headers.get(ERROR, ""))
        return msg.data

    async def _request(self, subject: str, data: bytes, timeout_s: float) -> Msg:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await self._client.request(subject, data, timeout=timeout_s)
        finally:
            # nats-py waits with `wait_for`, which in Python 3.11 swallows a cancellation that meets the answer.
            if task and task.cancelling() > before:
                raise asyncio.CancelledError

    async def ask(
        self,
        subject: str,
        message: Message,
        reply: type[M],
        *,
        timeout_s: float,
        repeat: bool = False,
        whom: str = "",
    ) -> M:
        """Ask with a message, and decode the answer; errors as `request`.

        What changes nothing may be asked again (`repeat`) where a broker that restarts lost it.
        """
        data = codec.encode(message)

        async def request(within_s: float) -> bytes:
            return await self.request(subject, data, timeout_s=within_s, whom=whom)

        answer = self._repeating.ask(request, timeout_s) if repeat else request(timeout_s)
        return codec.decode(reply, await answer)

    async def subscribe(self, subject: str, callback: Callable[[str, bytes], None]) -> None:
        """Call `callback(subject, data)` for every message; it must not block, and only takes note."""
        await self._subscribe(subject, callback)

    @asynccontextmanager
    async def subscribed(
        self, subject: str, callback: Callable[[str, bytes], None]
    ) -> AsyncIterator[None]:
        """As `subscribe`, for the time of a context."""
        subscription = await self._subscribe(subject, callback)
        try:
            yield
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _subscribe(
        self, subject: str, callback: Callable[[str, bytes], None]
    ) -> Subscription:

        async def on_message(msg: Msg) -> None:
            try:
                callback(msg.subject, msg.data)
            except RkllamaError as error:
                log.warning("message refused", extra={"subject": subject, "reason": str(error)})

        return await self._client.subscribe(
            subject, cb=on_message, pending_bytes_limit=PENDING_BYTES
        )

    async def answer(self, subject: str, handler: Callable[[str, bytes], bytes]) -> None:
        """Answer requests at once with `handler(subject, data)`, in the order of arrival."""

        async def on_message(msg: Msg) -> None:
            try:
                data = handler(msg.subject, msg.data)
            except RkllamaError as error:
                await self._refuse(msg, error)
            else:
                await self._respond(msg, data)

        await self._client.subscribe(subject, cb=on_message, pending_bytes_limit=PENDING_BYTES)

    async def serve(self, subject: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Answer requests each in a task of its own; several servers of a subject share them."""

        async def run(msg: Msg) -> None:
            try:
                data = await handler(msg.data)
            except RkllamaError as error:
                await self._refuse(msg, error)
            except Exception as error:
                log.exception("request failed", extra={"subject": subject})
                await self._refuse(msg, RkllamaError(f"internal error: {type(error).__name__}"))
            else:
                await self._respond(msg, data)

        async def on_message(msg: Msg) -> None:
            self._tasks.create_task(run(msg))

        await self._client.subscribe(subject, queue="q", cb=on_message)

    async def _respond(self, msg: Msg, data: bytes) -> None:
        if msg.reply:
            await self.publish(msg.reply, data)

    async def _refuse(self, msg: Msg, error: RkllamaError) -> None:
        code = error.code if error.code in BY_CODE else RkllamaError.code
        # A header ends at the line's end.
        text = " ".join(error.message.split())
        if msg.reply and self._client.is_connected:
            await self._client.publish(msg.reply, headers={ERROR: text, ERROR_CODE: code})

    async def _note_error(self, error: Exception) -> None:
        # nats-py reports every failed attempt to connect here, and what our callbacks raise.
        text = str(error).lower()
        if isinstance(error, ssl.SSLCertVerificationError) or AUTHORIZATION_VIOLATION in text:
            self._give_up(str(error))
        elif PERMISSIONS_ERR in text:
            # A request is not answered then: it says so itself, when its time is up.
            log.error("broker forbids", extra={"reason": str(error)})
            self._forbidden.update(_QUOTED.findall(text))
        elif isinstance(error, NatsError | OSError | TimeoutError):
            reason = f"{type(error).__name__}: {error}"
            log.debug("broker error", extra={"reason": reason})
            if not self._is_up and monotonic() - self._told_at >= UNREACHED_S:
                self._told_at = monotonic()
                log.warning("broker not reached", extra={"url": self._address, "reason": reason})
        else:
            log.error("callback failed", exc_info=error)

    async def _note_closed(self) -> None:
        # nats-py gives a connection up for what it thinks no new one mends.
        self._give_up(str(self._client.last_error))

    def _give_up(self, reason: str) -> None:
        """The broker does not want this process: it ends, for whoever started it to see."""
        if self._closing or self._refused.is_set():
            return
        log.error("broker refuses this process", extra={"reason": reason})
        self.trouble = reason
        self._refused.set()
        if self._is_up:
            self._tasks.create_task(_fail(BrokerRefusedError(f"{_REFUSED}: {reason}")))

    async def _note_disconnect(self) -> None:
        self._liveness.lost()
        self._repeating.lost()
        if not self._closing:
            log.warning("broker lost")

    async def _note_reconnect(self) -> None:
        log.info("broker found again")
        self._liveness.found()
        self._back()

    def _back(self) -> None:
        self._repeating.back()
        for callback in self._on_reconnect:
            callback()


async def _fail(error: Exception) -> None:
    """In a task group, end everything."""
    raise error
