"""`/api/debug`: how the whole system is now, for people who look for a fault. Only there with `--debug`.

gateway    this process                queue      its jobs, without what they ask for
workers    each by its own word now    engines    what each holds, is loading or lets go
store      by its last beat            requests   the last ones (`recent`)
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import APIRouter
from rkllama_protocol.messages import WorkerBeat
from starlette.responses import Response

from rkllama_gateway.connection import JSON
from rkllama_gateway.gateway import Gateway
from rkllama_gateway.job import HeldJob
from rkllama_gateway.recent import Recent

PATH = "/api/debug"


class DebugRoutes:
    """The one endpoint."""

    def __init__(self, gateway: Gateway, recent: Recent) -> None:
        self._gateway = gateway
        self._recent = recent
        self._began = time.monotonic()

    def router(self) -> APIRouter:
        """The endpoint with its method."""
        router = APIRouter()
        router.add_api_route(PATH, self.debug, methods=["GET"], include_in_schema=False)
        return router

    async def debug(self) -> Response:
        """`GET /api/debug`."""
        gateway = self._gateway
        known = {beat.worker_id for beat in gateway.boards.observer.living()}
        beats = await gateway.boards.status()
        silent = known - {beat.worker_id for beat in beats}
        now = time.monotonic()
        told = {
            "version": version("rkllama"),
            "gateway": {
                "gateway_id": gateway.gateway_id,
                "pid": os.getpid(),
                "up_s": now - self._began,
                "not_ready": gateway.not_ready(),
                "draining": gateway.draining,
            },
            "queue": [_job(held, now) for held in gateway.jobs.held()],
            "workers": [_worker(beat) for beat in beats],
            "silent_workers": sorted(silent),
            "stores": [beat.model_dump(mode="json") for beat in gateway.catalog.stores],
            "requests": self._recent.told(),
        }
        return Response(
            orjson.dumps(told, option=orjson.OPT_INDENT_2), headers={"content-type": JSON}
        )


def _worker(beat: WorkerBeat) -> dict[str, Any]:
    told = beat.model_dump(mode="json")
    told["engines"] = told.pop("models")
    return told


def _job(held: HeldJob, now: float) -> dict[str, Any]:
    """A job, without anything of what it asks for."""
    return {
        "job_id": held.job_id,
        "kind": held.job.kind,
        "model": held.job.model.name,
        "state": held.state.value,
        "class": held.job_class.value,
        "attempt": held.attempt,
        "worker_id": held.worker_id,
        "age_s": held.age_s(now),
        "chunks": held.next_seq,
        "buffered_bytes": held.buffered_bytes,
    }
