"""`python -m bench.simulator`: the figures of every policy, as the tables of `docs/scheduling.md`."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from bench.figures import quantile
from bench.simulator.board import Equipment
from bench.simulator.policies import POLICIES
from bench.simulator.running import Outcome, play
from bench.simulator.traffic import conversations

LOADS = (0.3, 0.6, 0.8)
LONG = range(1200, 2001)
"""Tokens of history of the follow-up turns that are told apart."""
CONVERSATIONS_PER_BOARD = 60
SAVED = 16


def figures(outcome: Outcome) -> list[str]:
    """Mean and p95 of all, mean and p95 of long follow-up turns, and loads."""
    every = [one.ttft_s for one in outcome.served]
    late = [one.ttft_s for one in outcome.served if one.turn.history in LONG]
    seconds = [
        statistics.fmean(every), quantile(every, 0.95), statistics.fmean(late), quantile(late, 0.95),
    ]  # fmt: skip
    return [f"{value:.2f}" for value in seconds] + [str(outcome.loads)]


def table(boards: int, load: float, *, per_board: int, seed: int) -> list[str]:
    """One table's rows."""
    traffic = conversations(boards=boards, load=load, count=per_board * boards, seed=seed)
    rows: list[str] = []
    for saved in (0, SAVED):
        for name, make in POLICIES.items():
            outcome = play(traffic, make, boards=boards, equipment=Equipment(most_saved=saved))
            if not rows:
                alone = [one.alone_s for one in outcome.served]
                late = [one.alone_s for one in outcome.served if one.turn.history in LONG]
                bound = [statistics.fmean(alone), quantile(alone, 0.95)]
                bound += [statistics.fmean(late), quantile(late, 0.95)]
                rows.append(_row(["bound", "", *(f"{value:.2f}" for value in bound), "0"]))
            rows.append(_row([name, str(saved or "none"), *figures(outcome)]))
    return rows


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulator")
    parser.add_argument("--boards", type=int, nargs="*", default=[4, 16])
    parser.add_argument("--loads", type=float, nargs="*", default=LOADS)
    parser.add_argument("--per-board", type=int, default=CONVERSATIONS_PER_BOARD)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    head = ["policy", "saved", "mean", "p95", "mean, long", "p95, long", "loads"]
    for boards in chosen.boards:
        for load in chosen.loads:
            print(f"\n{boards} boards, load {load:g}\n")
            print(_row(head))
            print(_row(["---"] * len(head)))
            for row in table(boards, load, per_board=chosen.per_board, seed=chosen.seed):
                print(row)


if __name__ == "__main__":
    main()
