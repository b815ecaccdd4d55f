"""Until when this board is busy: the one run it has, and the seconds that it is predicted to take."""

from __future__ import annotations

from time import monotonic

from rkllama_policy.cost import fetch_s, overdue_s, run_s
from rkllama_protocol.messages import RunningJob, WorkerBeat

from rkllama_worker.fetcher import Fetcher
from rkllama_worker.run import Run


class Occupancy:
    """The run that has the board, if any."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self.run: Run | None = None
        self._left_s = 0.0
        """Predicted seconds of the run, from `_since` on."""
        self._overdue_s = 0.0
        """What is left of it at least, as long as it goes on."""
        self._since = 0.0

    def begin(self, run: Run, board: WorkerBeat) -> None:
        """`run` has the board from now on, which was as `board` says."""
        self.run = run
        self._since = run.started_at
        self._left_s = run_s(run.ticket, board)
        self._overdue_s = overdue_s(run.ticket, board)

    def end(self) -> None:
        """The board is free."""
        self.run = None

    def as_message(self) -> RunningJob | None:
        """What beats say of it."""
        if self.run is None:
            return None
        now = monotonic()
        fetch = fetch_s(self._fetcher.bytes_per_s, self._fetcher.missing_bytes)
        if fetch:
            # The rest begins when everything is here.
            self._since = now
        left = max(self._overdue_s, self._left_s - (now - self._since))
        job = self.run.job
        return RunningJob(
            job_id=job.job_id,
            model=job.model.digest,
            left_s=fetch + left,
            overdue_s=self._overdue_s,
        )
