"""The emulator's process: ``serve`` is the service itself, ``serve_in_background`` starts it as a child.

Here: tokens from the environment, the socket, signals, starting and stopping. Not here: what is served (``service``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from resources.emulator.faults import FaultPlan, read_plan
from resources.failures import BackendError, FailureClass, InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Tokens that are good enough where nobody but this machine can call.
LOOPBACK_TOKEN = "emulator"
LOOPBACK_ADMIN_TOKEN = "emulator-admin"
PORT = 8765


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens; never shown."""

    token: str = field(repr=False)
    admin: str | None = field(repr=False)

    @classmethod
    def from_environment(cls, host: str = "127.0.0.1") -> Tokens:
        """``HYBRID_EMULATOR_TOKEN`` and ``HYBRID_EMULATOR_ADMIN_TOKEN``; on loopback both have defaults.

        Raises:
            InputError: elsewhere, when the first is not set.
        """
        local = host in LOOPBACK
        token = os.environ.get("HYBRID_EMULATOR_TOKEN") or (LOOPBACK_TOKEN if local else None)
        if token is None:
            raise InputError(
                "HYBRID_EMULATOR_TOKEN", "value", f"not set, and {host} is not loopback", "set a token of your own"
            )
        admin = os.environ.get("HYBRID_EMULATOR_ADMIN_TOKEN") or (LOOPBACK_ADMIN_TOKEN if local else None)
        return cls(token, admin)


def serve(
    home: Path,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    queue_seconds: float = 0.5,
    faults: Path | None = None,
    rate: float = 500.0,
    workers: int = 2,
    attached: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        home: folder of the durable state; one service at a time.
        port: 0 takes a free one; ``<home>/emulator.json`` says which.
        queue_seconds: every job waits at least so long.
        faults: file of the fault plan.
        rate: calls a second and token.
        workers: jobs that run at the same time.
        attached: end when standard input ends, that is with the process that holds its other side.

    Raises:
        InputError: no token, no free port, a bad plan, or another service on the same home.
    """
    import fcntl

    import uvicorn

    from resources.emulator.devices import DEVICES, emulated_backend
    from resources.emulator.engine import Engine
    from resources.emulator.faults import Faults
    from resources.emulator.service import Service
    from resources.emulator.store import Store

    tokens = Tokens.from_environment(host)
    plan = read_plan(faults) if faults else FaultPlan()
    try:
        home.mkdir(parents=True, exist_ok=True)
        held = (home / "emulator.lock").open("w")
    except OSError as error:
        problem = f"state cannot be written there ({(error.strerror or 'unknown error').lower()})"
        raise InputError(str(home), "--home", problem, "name a folder you may write to") from None
    with held as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                str(home), "--home", "another emulator serves from there", "stop it or name another folder"
            ) from None
        try:
            listening = socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
            )
        except OSError as error:
            raise InputError(str(port), "--port", f"cannot be used ({error.strerror})", "name another port") from None
        # the SDK is loaded before the first client waits for it
        emulated_backend(next(iter(DEVICES)), 0)
        habits, store = Faults(plan), Store(home, list(DEVICES))
        engine = Engine(store, habits, workers)
        service = Service(store, engine, habits, tokens.token, tokens.admin, queue_seconds, rate, workers)
        server = uvicorn.Server(
            uvicorn.Config(
                service.app(),
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
                # clients keep their connection between polls
                timeout_keep_alive=60,
            )
        )
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{listening.getsockname()[1]}"
        (home / "emulator.json").write_text(json.dumps({"url": url, "pid": os.getpid()}))
        if attached:
            threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
        print(f"emulator: {url} (devices: {', '.join(DEVICES)}; state in {home})", flush=True)
        # handlers should not wait long for a worker that computes
        sys.setswitchinterval(0.001)
        server.run(sockets=[listening])


def _end_with_input(server: object) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    server.should_exit = True  # type: ignore[attr-defined]


@dataclass
class Running:
    """A service in a child process; a context manager that stops it."""

    url: str
    token: str = field(repr=False)
    admin_token: str = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, patience: float = 15.0) -> None:
        """SIGTERM, and SIGKILL when it does not end within ``patience`` seconds."""
        self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.process.stdin:
            self.process.stdin.close()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def admin(self, path: str, document: object = None) -> dict[str, object]:
        """GET ``/admin/<path>``, or PUT ``document`` there."""
        request = urllib.request.Request(
            f"{self.url}/admin/{path}",
            data=None if document is None else json.dumps(document).encode(),
            method="GET" if document is None else "PUT",
            headers={"Authorization": f"Bearer {self.admin_token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, object] = json.load(answer)
            return found


def serve_in_background(
    home: Path,
    *,
    port: int = 0,
    queue_seconds: float = 0.5,
    faults: Path | None = None,
    rate: float = 500.0,
    workers: int = 2,
    detached: bool = False,
    patience: float = 60.0,
) -> Running:
    """Start the service on loopback as a child process and wait until it answers.

    Args:
        detached: it outlives this process; otherwise it ends with it.
        patience: seconds to wait for the first answer.

    Raises:
        BackendError: class ``capability``, when it does not come up; names the log.
    """
    options = ["--home", str(home), "--port", str(port), "--queue-seconds", str(queue_seconds)]
    options += ["--rate", str(rate), "--workers", str(workers)]
    options += ["--faults", str(faults)] if faults else []
    options += [] if detached else ["--attached"]
    home.mkdir(parents=True, exist_ok=True)
    log, said = home / "emulator.log", home / "emulator.json"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "resources.emulator", *options],
            stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            start_new_session=detached,
        )
    tokens, until = Tokens.from_environment(), time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, urllib.error.URLError):
            found = json.loads(said.read_text())
            if found["pid"] == process.pid:
                with urllib.request.urlopen(f"{found['url']}/health", timeout=patience):
                    return Running(found["url"], tokens.token, tokens.admin or LOOPBACK_ADMIN_TOKEN, process)
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise BackendError(f"the emulator did not come up; its log is {log}", FailureClass.CAPABILITY)
