"""`python -m rkllama_worker`: one worker, wired."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rkllama_board.detect import detect
from rkllama_board.measuring import measure
from rkllama_protocol.subjects import Subjects
from rkllama_service import broker_access, http, logs, process
from rkllama_service.settings import read
from starlette.applications import Starlette

from rkllama_worker.cache import Cache
from rkllama_worker.metrics import Metrics
from rkllama_worker.runtimes import offered
from rkllama_worker.saved import SavedContexts
from rkllama_worker.settings import Settings
from rkllama_worker.worker import Worker


async def main(stop: asyncio.Event) -> None:
    """Run one worker until `stop` is set."""
    settings, shared = read(Settings)
    logs.configure(debug=shared.debug, data_dir=shared.data_dir, worker_id=settings.worker_id)
    board = detect(platform=shared.platform)
    if settings.npu_node is not None:
        board = replace(board, npu_node=settings.npu_node)
    runtimes = await asyncio.to_thread(
        offered,
        settings.runtime,
        board,
        library=shared.rkllm_library,
        abi=shared.rkllm_abi,
        constrained=settings.rkllm_constrained,
        saves=settings.rkllm_saved,
    )
    metrics = Metrics(settings.worker_id)
    metrics.describe(board, runtimes.npu, runtimes.formats)

    async def read_sensors() -> None:
        metrics.measured(await asyncio.to_thread(measure, board))

    sock = http.bind(settings.http_host, settings.http_port)
    async with asyncio.TaskGroup() as tasks:
        connecting = broker_access.connect(
            shared, role="worker", process_id=settings.worker_id, tasks=tasks
        )
        bus = await process.unless(stop, connecting)
        if bus is None:
            return
        worker = Worker(
            worker_id=settings.worker_id,
            bus=bus,
            subjects=Subjects(settings.subject_prefix),
            tasks=tasks,
            runtimes=runtimes,
            models_dir=shared.data_dir / "models",
            cache=Cache(
                settings.cache_dir or shared.data_dir / "cache" / settings.worker_id,
                limit_bytes=settings.cache_bytes,
            ),
            saved=SavedContexts(
                settings.saved_dir or shared.data_dir / "saved" / settings.worker_id,
                limit_bytes=settings.saved_bytes,
                max_age_s=settings.saved_age_s,
            ),
            memory_limit_bytes=settings.memory_limit_bytes,
            max_models=settings.max_models,
            keep_alive_s=settings.keep_alive_s,
            load_timeout_s=settings.load_timeout_s,
            drain_timeout_s=settings.drain_timeout_s,
            stall_s=settings.stall_s,
            http_url=http.url_of(sock),
            metrics=metrics,
        )
        app = Starlette(
            routes=http.probes(metrics.registry, worker.not_ready, measure=read_sensors)
        )
        async with bus, http.serving(app, [sock]):
            await worker.run(stop)


if __name__ == "__main__":
    process.run(main)
