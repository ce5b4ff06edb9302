"""The worker threads that run jobs in order of priority and arrival.

Here: taking a due job, its faults, running it, storing what came out. Not here: physics (``devices``), states
(``store``), HTTP (``service``). The simulators do their work outside Python's lock, so threads are enough.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time

from resources.emulator.devices import DEVICES, execute
from resources.emulator.faults import Faults
from resources.emulator.store import Store

_LOG = logging.getLogger("emulator")
#: Longest nap between two looks at the queue, seconds.
_NAP = 0.25


class Engine:
    """A pool of worker threads over one store."""

    def __init__(self, store: Store, faults: Faults, workers: int) -> None:
        self._store, self._faults = store, faults
        self._news, self._stopping = threading.Condition(), False
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Start the workers."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be a job to run."""
        with self._news:
            self._news.notify_all()

    def stop(self, patience: float = 5.0) -> None:
        """Let the workers end their jobs; one that takes longer than ``patience`` seconds runs again next time."""
        self._stopping = True
        self.wake()
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while not self._stopping:
            row = self._store.take()
            if row is not None:
                self._run(row)
                continue
            with self._news:
                if not self._stopping:
                    self._news.wait(min(_NAP, self._store.seconds_to_next(_NAP)))

    def _run(self, row: sqlite3.Row) -> None:
        fault = self._faults.draw("execute")
        if fault is not None and fault.fault == "failed_job":
            self._store.fail(row["id"], "the device lost the job (fault plan)")
            return
        if fault is not None and fault.fault == "drift":
            self._store.drift(row["device"])
        state, price = self._store.device(row["device"]), DEVICES[row["device"]].price
        started = time.perf_counter()
        try:
            outcomes, shots = [], 0
            for index, (digest, bindings) in enumerate(json.loads(row["circuits"])):
                kind, program = self._store.circuit(digest)
                seed = row["seed"] + index
                outcomes.append(execute(row["device"], state.calibration, kind, program, bindings, row["shots"], seed))
                shots += row["shots"] * len(bindings)
        except Exception as error:
            _LOG.exception("job %s", row["id"])
            self._store.fail(row["id"], f"the circuit could not be run ({type(error).__name__})")
            return
        seconds = time.perf_counter() - started
        cost = price.per_job + price.per_shot * shots + price.per_second * seconds
        self._store.finish(
            row["id"],
            [outcome.counts for outcome in outcomes],
            "global" if any(outcome.noise == "global" for outcome in outcomes) else "per gate",
            seconds,
            cost,
            state,
        )
