"""Until when this board is busy: the one run it has, and the seconds that it is predicted to take."""

from __future__ import annotations

from time import monotonic

from rkllama_policy.cost import fetch_s, overdue_s, rest_s, run_s
from rkllama_protocol.messages import RunningJob, WorkerBeat

from rkllama_worker.fetcher import Fetcher
from rkllama_worker.run import Run


class Occupancy:
    """The run that has the board, if any."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self.run: Run | None = None
        self._said: RunningJob | None = None
        """What was to be said of it at `_since`."""
        self._since = 0.0

    def begin(self, run: Run, board: WorkerBeat) -> None:
        """`run` has the board from now on, which was as `board` says."""
        self.run = run
        self._since = run.started_at
        self._said = RunningJob(
            job_id=run.job.job_id,
            model=run.job.model.digest,
            left_s=run_s(run.ticket, board),
            overdue_s=overdue_s(run.ticket, board),
        )

    def end(self) -> None:
        """The board is free."""
        self.run = self._said = None

    def as_message(self) -> RunningJob | None:
        """What beats say of it."""
        if self._said is None:
            return None
        now = monotonic()
        fetch = fetch_s(self._fetcher.bytes_per_s, self._fetcher.missing_bytes)
        if fetch:
            # The rest begins when everything is here.
            self._since = now
        left = fetch + rest_s(self._said, now - self._since)
        return self._said.model_copy(update={"left_s": left})
