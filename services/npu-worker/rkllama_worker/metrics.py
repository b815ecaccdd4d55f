"""What the worker counts, and what its board is at the moment when it is scraped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from rkllama_board.board import Board
from rkllama_board.measuring import Readings
from rkllama_service.metrics import LATENCY_BUCKETS_S, Rows, add_rows

if TYPE_CHECKING:
    from rkllama_worker.npu import Npu
    from rkllama_worker.residency import Resident
    from rkllama_worker.run import Run

OUTCOMES = ("finished", "aborted", "engine_died", "load_failed", "runtime_failed")
"""The usual ones; others are the codes of further failures."""
NOTHING = Readings(temperatures={}, limits={}, memory_bytes=None, memory_available_bytes=None)
"""Before the first scrape."""
NANO = 1e-9


class BoardState(StrEnum):
    """What a board does; it does one thing at a time."""

    STARTING = "starting"
    IDLE = "idle"
    LOADING = "loading"
    """A model, which may have to be fetched first."""
    PREFILL = "prefill"
    DECODE = "decode"
    DRAINING = "draining"


class Metrics:
    """One registry, so that a test may have several workers in a process."""

    def __init__(self, worker_id: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._worker_id = worker_id
        self._readings = NOTHING
        self._runs = Counter(
            "rkllama_worker_runs",
            "Attempts of jobs that ended on this board, by how.",
            ["worker_id", "outcome"],
            registry=registry,
        )
        self._tokens = Counter(
            "rkllama_worker_tokens",
            "Tokens this board computed (input, output), and input it could reuse.",
            ["worker_id", "type"],
            registry=registry,
        )
        self._busy = Counter(
            "rkllama_board_busy_seconds",
            "Time that this board loaded, read prompts and made tokens, counted as each run ends.",
            ["worker_id", "phase"],
            registry=registry,
        )
        self._load = Histogram(
            "rkllama_model_load_seconds",
            "Time to load a model; evicted says whether another one had to go for it.",
            ["worker_id", "evicted"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._restores = Counter(
            "rkllama_worker_restores",
            "Saved conversations that were to be put back into a context, by whether they were.",
            ["worker_id", "outcome"],
            registry=registry,
        )
        fetched = Counter(
            "rkllama_worker_fetched_bytes",
            "Bytes of models that came from the store.",
            ["worker_id"],
            registry=registry,
        )
        self._fetched = fetched.labels(worker_id)
        # A counter that appears with its first event has no increase that a rule could see.
        for outcome in OUTCOMES:
            self._runs.labels(worker_id, outcome)
        for kind in ("input", "reused", "output"):
            self._tokens.labels(worker_id, kind)
        for phase in ("load", "prefill", "decode"):
            self._busy.labels(worker_id, phase)
        for evicted in ("true", "false"):
            self._load.labels(worker_id, evicted)
        for restored in ("restored", "refused"):
            self._restores.labels(worker_id, restored)
        self._add_readings()

    # ------------------------------------------------------------------ events

    def fetched(self, size_bytes: int) -> None:
        """Count bytes that came from the store."""
        self._fetched.inc(size_bytes)

    def note(self, run: Run) -> None:
        """Count a run that is over."""
        if run.failure is not None:
            outcome = run.failure.code
        elif run.ended is None or run.ended.aborted:
            outcome = "aborted"
        else:
            outcome = "finished"
        self._runs.labels(self._worker_id, outcome).inc()
        if run.load_s is not None:
            evicted = "true" if run.load_evicted else "false"
            self._load.labels(self._worker_id, evicted).observe(run.load_s)
            self._busy.labels(self._worker_id, "load").inc(run.load_s)
        if run.ended is not None:
            computed = run.ended.prompt_tokens - run.ended.reused_tokens
            self._tokens.labels(self._worker_id, "input").inc(max(0, computed))
            self._tokens.labels(self._worker_id, "reused").inc(run.ended.reused_tokens)
            self._tokens.labels(self._worker_id, "output").inc(run.ended.generated_tokens)
            self._busy.labels(self._worker_id, "prefill").inc(run.ended.prefill_ns * NANO)
            self._busy.labels(self._worker_id, "decode").inc(run.ended.decode_ns * NANO)
            if run.ended.restored is not None:
                restored = "restored" if run.ended.restored else "refused"
                self._restores.labels(self._worker_id, restored).inc()

    def measured(self, readings: Readings) -> None:
        """What the board's sensors said just now."""
        self._readings = readings

    # ------------------------------------------------------------------ gauges

    def tell(
        self,
        *,
        state: Callable[[], BoardState],
        residents: Callable[[], Iterable[Resident]],
        memory_limit_bytes: int,
        saved_bytes: Callable[[], int],
    ) -> None:
        """Add the gauges that are read from the worker."""
        self._add(
            "rkllama_board_state",
            "1 for what this board does now, 0 for what it does not.",
            ("state",),
            lambda: [((each.value,), float(each is state())) for each in BoardState],
        )
        self._add(
            "rkllama_board_model_resident",
            "1 for each model that is loaded here.",
            ("model",),
            lambda: [
                ((name,), 1.0) for name in {r.model.name for r in residents() if r.state == "ready"}
            ],
        )
        self._add(
            "rkllama_board_model_bytes",
            "Memory that each model here uses, or will when it is loaded.",
            ("model",),
            lambda: _sizes(residents()).items(),
        )
        self._add(
            "rkllama_board_memory_limit_bytes",
            "Memory that models may use.",
            (),
            lambda: [((), float(memory_limit_bytes))],
        )
        self._add(
            "rkllama_worker_saved_bytes",
            "Size of the conversations that are kept in files.",
            (),
            lambda: [((), float(saved_bytes()))],
        )

    def describe(self, board: Board, npu: Npu | None, runtimes: Iterable[str]) -> None:
        """Add what the board is, as far as it is known; the rest is empty."""
        identity = npu.identity if npu is not None else None
        facts = {
            "soc": board.soc.value if board.soc else "",
            "driver": board.driver_version,
            "rkllm": (identity.version or "") if identity else "",
            "abi": identity.family if identity else "",
            "emulator": "true" if identity and identity.emulator else "false",
            "runtimes": ",".join(sorted(runtimes)),
        }
        self._add(
            "rkllama_runtime_info",
            "1, with what this board is and runs models with.",
            tuple(facts),
            lambda: [(tuple(facts.values()), 1.0)],
        )

    def _add(self, name: str, text: str, labels: tuple[str, ...], rows: Rows) -> None:
        def with_id() -> Iterator[tuple[tuple[str, ...], float]]:
            return (((self._worker_id, *values), value) for values, value in rows())

        add_rows(self.registry, name, text, ("worker_id", *labels), with_id)

    def _add_readings(self) -> None:
        """What a board does not tell has no row: no figure is better than a wrong one."""
        self._add(
            "rkllama_npu_load_ratio",
            "Share of the last second that a core of the NPU worked, by its driver.",
            ("core",),
            lambda: [((str(core),), load) for core, load in enumerate(self._readings.npu_load)],
        )
        self._add(
            "rkllama_npu_frequency_hertz",
            "Clock of the NPU.",
            (),
            lambda: _known(self._readings.npu_hz),
        )
        self._add(
            "rkllama_board_temperature_celsius",
            "Temperature of each zone that the kernel knows.",
            ("zone",),
            lambda: _zones(self._readings.temperatures),
        )
        self._add(
            "rkllama_board_temperature_limit_celsius",
            "Where the kernel begins to lower clocks: the zone's first passive trip point.",
            ("zone",),
            lambda: _zones(self._readings.limits),
        )
        self._add(
            "rkllama_board_ram_bytes",
            "Memory of this board.",
            (),
            lambda: _known(self._readings.memory_bytes),
        )
        self._add(
            "rkllama_board_ram_available_bytes",
            "Memory of this board that is free, or can be freed.",
            (),
            lambda: _known(self._readings.memory_available_bytes),
        )


def _known(value: float | None) -> list[tuple[tuple[str, ...], float]]:
    return [] if value is None else [((), float(value))]


def _sizes(residents: Iterable[Resident]) -> dict[tuple[str, ...], float]:
    """Bytes by name: a model that was made anew is here twice, until the older one goes."""
    sizes: dict[tuple[str, ...], float] = defaultdict(float)
    for one in residents:
        sizes[one.model.name,] += one.size
    return sizes


def _zones(degrees: Mapping[str, float]) -> list[tuple[tuple[str, ...], float]]:
    return [((zone,), value) for zone, value in degrees.items()]
