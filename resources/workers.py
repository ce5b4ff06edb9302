"""The warm worker: local backends answer there, its SDKs stay loaded, and it is killed at a job's hard limit.

Here: one worker process, its limits, its life and its death. Not here: what a backend computes (``backends``) or what
follows when it did not (``dispatcher``).

The worker is a fresh interpreter on a socket pair. A fork would inherit threads and locks of SDKs and does not work on
macOS; multiprocessing's spawn and forkserver run the caller's main module once more, and are no help after a fork.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from resources.envelope import JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass, HybridError, TimedOut, redacted

if TYPE_CHECKING:
    from resources.backends.base import LocalBackend
    from resources.payloads import Payload

#: Seconds a worker may take to start and to load an SDK, on a machine that does much else.
START_SECONDS = 180.0
#: Seconds between two looks of a worker whether its parent lives.
WATCH_SECONDS = 0.5
#: First answer to a job: the SDK is loaded, the clock runs.
STARTED = "started"


def hard_limit(execution: float) -> float:
    """Seconds after which a job is killed: a little more than the soft limit that simulators keep by themselves."""
    return max(1.15 * execution, execution + 1.0)


@dataclass(frozen=True)
class _Job:
    """What travels: a backend's recipe and name, the envelope, the payload as a file, GiB it may allocate."""

    recipe: bytes
    name: str
    envelope: JobEnvelope
    payload: bytes
    memory_gib: float


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    line: Connection

    def end(self) -> int:
        """Kill it, if it still lives, with all that it has started; its exit status."""
        self.line.close()
        if self.process.returncode is None:
            # not waited for yet, so its number, which is its group's, is nobody else's
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


class WarmWorkers:
    """Runs local backends in one warm worker process per process (a ``Runner``); jobs of several threads take turns.

    A worker that was killed, or has died, is replaced. A forked child gets a worker of its own when it needs one.

    Args:
        memory_gib: what a job may allocate beyond what is loaded when it starts, in GiB (kept where the platform has
            RLIMIT_DATA, that is on Linux).
    """

    def __init__(self, memory_gib: float = 8.0) -> None:
        self.memory_gib = memory_gib
        self._loaded: dict[bytes, None] = {}
        self._take()
        atexit.register(self.close)

    def __call__(self, backend: LocalBackend, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Run the job in the worker.

        Raises:
            TimedOut: killed at the hard limit, or out of memory.
            BackendError: the worker died: class ``backend`` by its own fault, ``transient`` where it was killed, since
                that is tried again and goes on from the job's checkpoint; ``internal`` when ``run`` raised something
                foreign.
            HybridError: whatever ``run`` raised.
        """
        from resources import payloads

        recipe = _recipe(backend)
        job = pickle.dumps(_Job(recipe, backend.name, envelope, payloads.to_bytes(payload), self.memory_gib))
        self._own()
        with self._lock:
            self._loaded[recipe] = None
            try:
                answer = self._start_job(backend.name, job)
                if answer == STARTED:
                    answer = self._finish_job(backend.name, envelope.timeout.execution)
            except BaseException:
                # killed, dead, or our caller was interrupted: nothing of this job may answer the next one
                self._renew()
                raise
            if isinstance(answer, TimedOut):
                self._renew()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, JobResult)
        return answer

    def warm(self, backend: LocalBackend) -> None:
        """Start the worker and let it load the backend's SDK, while the caller goes on."""
        recipe = _recipe(backend)
        self._own()
        # while a job runs the worker is warm
        if self._lock.acquire(blocking=False):
            try:
                self._loaded[recipe] = None
                self._load(self._worker or self._start())
            finally:
                self._lock.release()

    def close(self) -> None:
        """End the worker; the next job starts another."""
        if self._pid == os.getpid() and self._worker:
            self._worker.end()
            self._worker = None

    @property
    def pid(self) -> int | None:
        """Process number of the worker, where there is one."""
        return self._worker.process.pid if self._pid == os.getpid() and self._worker else None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        self._pid, self._lock, self._worker = os.getpid(), threading.Lock(), None

    _pid: int
    _lock: threading.Lock
    _worker: _Worker | None

    def _own(self) -> None:
        """After a fork, leave the parent's worker alone: its answers are not for us."""
        if self._pid != os.getpid():
            self._take()

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        code = (
            f"import sys; sys.path[:] = {[p for p in sys.path if isinstance(p, str)]!r}; "
            f"from resources.workers import serve; serve({theirs.fileno()}, {os.getpid()})"
        )
        # a session of its own: Ctrl-C is the parent's business; what SDKs print may not mix with the parent's output
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._worker = _Worker(process, ours)
        return self._worker

    def _renew(self) -> None:
        """Another worker, which loads in the background what this one had loaded."""
        if self._worker:
            self._worker.end()
        self._load(self._start())

    def _load(self, worker: _Worker) -> None:
        # a worker that is dead already is noticed by the next job
        with suppress(OSError):
            worker.line.send_bytes(pickle.dumps(tuple(self._loaded)))

    def _start_job(self, name: str, job: bytes) -> Any:
        """Hand the job over; the first answer."""
        for last in (False, True):
            worker = self._worker or self._start()
            try:
                worker.line.send_bytes(job)
                if not worker.line.poll(START_SECONDS):
                    raise BackendError(f"the worker of {name} was not ready within {START_SECONDS:g} s")
                return worker.line.recv()
            except (EOFError, OSError):
                # nothing has run yet: an idle worker may have been killed, a second death is no accident
                status = worker.end()
                self._worker = None
                if last:
                    raise BackendError(f"the worker died while it loaded {name} ({_death(status)})") from None
        raise AssertionError("unreachable")

    def _finish_job(self, name: str, execution: float) -> Any:
        """Wait for the answer until the hard limit."""
        assert self._worker is not None
        limit = hard_limit(execution)
        try:
            if not self._worker.line.poll(limit):
                raise TimedOut(f"{name} was killed at the hard limit of {limit:g} s")
            return self._worker.line.recv()
        except (EOFError, OSError):
            status = self._worker.end()
            kind = FailureClass.TRANSIENT if status == -signal.SIGKILL else FailureClass.BACKEND
            raise BackendError(f"the worker died while {name} ran ({_death(status)})", kind) from None


def _recipe(backend: LocalBackend) -> bytes:
    """What makes the backend again in another process: where to look for its class, the class, its fields."""
    settings = {f.name: getattr(backend, f.name) for f in fields(backend) if f.init and f.name != "runner"}
    try:
        # a plug-in may have come on the path after the worker was started
        path = [place for place in sys.path if isinstance(place, str)]
        return pickle.dumps((path, pickle.dumps((type(backend), settings))))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BackendError(
            f"backend {backend.name} cannot be made again in a worker: {redacted(str(error))}", FailureClass.INTERNAL
        ) from None


def _death(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name


# --- in the worker ----------------------------------------------------------------------------------------------------


def serve(line_number: int, parent: int) -> None:
    """A worker's life: load and answer, until the parent is gone.

    Args:
        line_number: file descriptor of its end of the socket pair.
        parent: process number of the parent.
    """
    line = Connection(line_number)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    backends: dict[bytes, LocalBackend] = {}
    with suppress(EOFError, OSError):
        while True:
            order = pickle.loads(line.recv_bytes())
            if isinstance(order, _Job):
                line.send(_answer(line, backends, order))
            else:
                for recipe in order:
                    # what is missing is said to the job that needs it
                    with suppress(Exception):
                        _made(backends, recipe).load()
    # no tidy end: SDKs with threads may take their time for it
    _end()


def _watch(parent: int) -> None:
    """End with the parent, also when a copy of its socket lives on in a forked child."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    _end()


def _end() -> None:
    """End at once, with what SDKs have started: the group is this worker's own."""
    os.killpg(0, signal.SIGKILL)


def _made(backends: dict[bytes, LocalBackend], recipe: bytes) -> LocalBackend:
    """The backend of a recipe, made once: what it keeps (compiled circuits, noise models) stays warm with it."""
    if recipe not in backends:
        path, made = pickle.loads(recipe)
        sys.path += [place for place in path if place not in sys.path]
        kind, settings = pickle.loads(made)
        backends[recipe] = kind(**settings)
    return backends[recipe]


def _answer(line: Connection, backends: dict[bytes, LocalBackend], job: _Job) -> JobResult | HybridError:
    """Run one job; what it raised is the answer, fit to travel."""
    try:
        from resources import payloads

        backend = _made(backends, job.recipe)
        payload = payloads.from_bytes(job.envelope.kind, job.payload)
        backend.load()
        _limit_memory(job.memory_gib)
        line.send(STARTED)
        # should the parent die while no Python code runs here, the kernel ends what nobody waits for
        signal.setitimer(signal.ITIMER_REAL, hard_limit(job.envelope.timeout.execution) + 10.0)
        return backend.answer(job.envelope, payload)
    except BaseException as error:
        return _portable(error, job.name, job.memory_gib)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _portable(error: BaseException, name: str, memory_gib: float) -> HybridError:
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return TimedOut(f"{name} needed more than {memory_gib:g} GiB of memory")
    if isinstance(error, HybridError):
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    if isinstance(error, ImportError):
        return BackendError(f"backend {name} cannot be loaded: {redacted(str(error))}", FailureClass.CAPABILITY)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return BackendError(
        f"{type(error).__name__} in {os.path.basename(place.filename)}:{place.lineno}: {redacted(str(error))}",
        FailureClass.INTERNAL,
    )


def _limit_memory(gib: float) -> None:
    """Cap private memory at what is in use now plus ``gib``; a best effort where the kernel does not count it."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as statm:
            used = int(statm.read().split()[5]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = used + int(gib * 2**30)
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
        )
