"""The engine's end of the socket to its worker: frames in on one thread, frames out from any."""

from __future__ import annotations

import socket
import threading

from rkllama_worker.engine.wire import HEAD_BYTES, Frame, Kind, pack, unpack_head


class ClosedError(Exception):
    """The worker is gone."""


class Channel:
    """Whole frames over a blocking socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(None)
        self._writing = threading.Lock()

    def receive(self) -> Frame:
        """The next frame; waits for it.

        Raises:
            ClosedError: The other end closed, or died.
            BrokenStreamError: It sent what is no frame.
        """
        length, kind, run = unpack_head(self._read(HEAD_BYTES))
        return Frame(kind, run, self._read(length))

    def send(self, kind: Kind, run: int, payload: bytes = b"") -> None:
        """Write a frame whole; waits while the worker does not read.

        Raises:
            ClosedError: The other end closed, or died.
        """
        with self._writing:
            try:
                self._connection.sendall(pack(kind, run, payload))
            except OSError as error:
                raise ClosedError(str(error)) from error

    def _read(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = self._connection.recv_into(view)
            except OSError as error:
                raise ClosedError(str(error)) from error
            if not count:
                raise ClosedError("end of stream")
            view = view[count:]
        return bytes(data)
