"""`python -m rkllama_worker.engine --fd N --parent PID`: started by a worker, never by a person."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
from typing import NoReturn

from rkllama_service import logs
from rkllama_service.process import die_with_parent

from rkllama_worker.engine.channel import Channel, ClosedError
from rkllama_worker.engine.engine import Engine
from rkllama_worker.engine.wire import BrokenStreamError, Kind, LoadSpec, Saving

log = logging.getLogger(__name__)


def main() -> NoReturn:
    """Serve one worker until it closes the socket or ends."""
    arguments = argparse.ArgumentParser(prog="rkllama_worker.engine")
    arguments.add_argument("--fd", type=int, required=True, help="the socket to the worker")
    arguments.add_argument("--parent", type=int, required=True, help="the worker's process id")
    given = arguments.parse_args()
    die_with_parent(given.parent)
    # What people said is in the contexts that it saves, and the folder may be anybody's.
    os.umask(0o077)
    logs.configure(debug=False)
    channel = Channel(socket.socket(fileno=given.fd))
    engine = Engine(channel)
    threading.Thread(target=_serve, args=(engine,), daemon=True).start()
    try:
        _read(channel, engine)
    except ClosedError:
        _leave(0)
    except Exception:
        log.exception("worker sent nonsense")
    _leave(1)


def _read(channel: Channel, engine: Engine) -> NoReturn:
    while True:
        frame = channel.receive()
        match frame.kind:
            case Kind.LOAD:
                engine.load(LoadSpec.model_validate_json(frame.payload))
            case Kind.SAVING:
                engine.saving(frame.run, Saving.model_validate_json(frame.payload))
            case Kind.RUN:
                engine.run(frame.run, frame.payload)
            case Kind.ABORT:
                engine.abort(frame.run)
            case Kind.MORE:
                engine.more(frame.run)
            case _:
                raise BrokenStreamError(f"the worker sent {frame.kind.name}")


def _serve(engine: Engine) -> NoReturn:
    try:
        engine.serve()
    except ClosedError:
        _leave(0)
    except Exception:
        log.exception("engine failed")
    _leave(1)


def _leave(code: int) -> NoReturn:
    """End at once: the runtime may be in the middle of a run, and does not let go of its threads."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
