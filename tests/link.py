"""A line between two processes that a test may hold, cut and garble, and that counts what it carries."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

PIECE_BYTES = 2**16


class Link:
    """A TCP forwarder on loopback to the address that `target()` gives; a context.

    Faults are told by bytes: how many have come *from* the target, over all connections, when it
    happens. HTTP headers are among them.
    """

    def __init__(self, target: Callable[[], str]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._hold_at: int | None = None
        self._cuts: list[int] = []
        self._garbled: list[int] = []
        self._released = threading.Event()
        self.held = threading.Event()
        """The line is held: as many bytes have come as `hold` said."""
        self.carried = 0
        """Bytes that have come from the target."""

    @property
    def url(self) -> str:
        """What to use in place of the target's."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def hold(self, after_bytes: int) -> None:
        """Carry so much more, and then nothing until `release`."""
        self.held.clear()
        self._released.clear()
        self._hold_at = self.carried + after_bytes

    def release(self) -> None:
        """Carry again."""
        self._hold_at = None
        self._released.set()

    def cut(self, *after_bytes: int) -> None:
        """Break the connection after so many more bytes, each counted from now."""
        self._cuts = sorted(self.carried + count for count in after_bytes)

    def garble(self, *after_bytes: int) -> None:
        """Change the byte that comes after so many more, each counted from now."""
        self._garbled = sorted(self.carried + count for count in after_bytes)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        with self._lock:
            # `shutdown` wakes a thread that waits in `accept` or `recv`; `close` alone does not.
            for end in (self._listener, *self._open):
                _end(end)
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    address = urlsplit(self._target())
                    far = socket.create_connection((address.hostname, address.port))
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._open += [near, far]
                self._start(lambda near=near, far=far: self._up(near, far))  # type: ignore[misc]
                self._start(lambda near=near, far=far: self._down(near, far))  # type: ignore[misc]

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(PIECE_BYTES):
                far.sendall(data)
        _end(far)

    def _down(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(PIECE_BYTES):
                if not self._carry(near, bytearray(data)):
                    break
        _end(near)
        _end(far)

    def _carry(self, near: socket.socket, data: bytearray) -> bool:
        """Send what came; whether the connection is still whole."""
        while data:
            if self._hold_at is not None and self.carried >= self._hold_at:
                self.held.set()
                self._released.wait()
                self._hold_at = None
            if self._cuts and self.carried >= self._cuts[0]:
                self._cuts.pop(0)
                return False
            edges = [edge - self.carried for edge in (self._hold_at, *self._cuts[:1]) if edge]
            count = min([len(data), *edges])
            piece, data = data[:count], data[count:]
            if self._garbled and self._garbled[0] < self.carried + count:
                piece[self._garbled.pop(0) - self.carried] ^= 0xFF
            self.carried += count
            near.sendall(piece)
        return True


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
