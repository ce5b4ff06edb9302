"""A loopback server for IBM's real client library: the needed part of IBM Cloud's and IBM Quantum Platform's REST.

It speaks what ``qiskit-ibm-runtime`` asks for: the exchange of an API key for a token, the search for instances, the
catalogue of plans, devices with configuration, calibration and status, jobs, sessions, usage. Jobs really run: the
``executor`` program is decoded with the library's own schema, sampled on a noisy fake device, and encoded with the
same schema. Faults are ordered by the tests. Not here: anything the adapter under test uses.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123456789abcdef:11111111-2222-3333-4444-555555555555::"
API_KEY = "loopback-api-key-9f8e7d6c5b4a"
DEVICE = "ibm_loopback"


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class ServedJob:
    """A job as the service holds it; ``status`` is the service's own word."""

    id: str
    body: dict[str, Any]
    created: str = field(default_factory=_now)
    status: str = "Queued"
    reason: str | None = None
    reason_code: int | None = None
    result: str = ""
    running: str | None = None
    finished: str | None = None

    def document(self) -> dict[str, Any]:
        state: dict[str, Any] = {"status": self.status}
        if self.reason:
            state |= {"reason": self.reason, "reason_code": self.reason_code}
        return {
            "id": self.id,
            "backend": self.body["backend"],
            "state": state,
            "status": self.status,
            "program": {"id": self.body["program_id"]},
            "created": self.created,
            "tags": self.body.get("tags", []),
            "session_id": self.body.get("session_id"),
            "cost": self.body.get("cost"),
        }


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match: a status, or ``lost``: done, but never answered."""

    method: str
    path: str
    status: int = 0
    lost: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


class IbmServer:
    """The service on a free loopback port, in threads of this process; a context manager.

    Attributes:
        held: jobs stay in the queue while this is set.
        word: status word that every job is reported with, instead of its own.
        fail_with: reason with which jobs fail, with its code.
        requests: ``(method, path)`` of every request.
        garbled: results are cut in the middle.
    """

    def __init__(self, simulator: bool = False) -> None:
        fake, self._simulator = _device()
        self._configuration = fake._load_json(fake.conf_filename)
        self._configuration |= {"backend_name": DEVICE, "simulator": simulator}
        self._properties = fake._load_json(fake.props_filename)
        self.jobs: dict[str, ServedJob] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.held, self.garbled, self.gone = False, False, False
        self.word: str | None = None
        self.fail_with: tuple[str, int] | None = None
        self.tokens: set[str] = set()
        self._lock = threading.Lock()
        self._work = ThreadPoolExecutor(1)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> IbmServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # what is held is dropped, not run
        for job in self.jobs.values():
            job.status = "Cancelled" if job.status == "Queued" else job.status
        self._http.shutdown()
        self._http.server_close()
        self._work.shutdown(cancel_futures=True)

    def disappear(self) -> None:
        """No new connections, and none of the open ones answers."""
        self.gone = True
        self._http.shutdown()
        self._http.server_close()

    def environment(self) -> dict[str, str]:
        """Variables that point the adapter, and the library's calls to IBM Cloud, here."""
        return {
            "HYBRID_IBM_TOKEN": API_KEY,
            "HYBRID_IBM_INSTANCE": CRN,
            "HYBRID_IBM_URL": f"{self.url}/api/v1",
            "HYBRID_IBM_BACKEND": DEVICE,
            # the library's own
            "IAM_URL": self.url,
            "GLOBAL_SEARCH_URL": self.url,
            "GLOBAL_CATALOG_URL": f"{self.url}/catalog",
        }

    def fault(self, method: str, path: str, **what: Any) -> None:
        """Order a fault: ``path`` is a regular expression for the whole path."""
        self.faults.append(Fault(method, path, **what))

    def sent(self, method: str, path: str) -> int:
        """How many requests came that match."""
        return sum(m == method and re.fullmatch(path, p) is not None for m, p in self.requests)

    # --- what the service does --------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes, headers: Any) -> Any:
        """``(status, document or text, headers)``; ``None``: no answer at all."""
        if self.gone:
            return None
        with self._lock:
            self.requests.append((method, path))
            fault = next((f for f in self.faults if f.method == method and re.fullmatch(f.path, path)), None)
            if fault:
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
        if fault and not fault.lost:
            return fault.status, {"error": {"message": "ordered by the test", "code": fault.status}}, fault.headers
        answer = self._route(method, path, query, body, headers)
        return None if fault else (*answer, {})

    def _route(self, method: str, path: str, query: dict[str, list[str]], body: bytes, headers: Any) -> Any:
        if path == "/identity/token":
            return self._token(parse_qs(body.decode()))
        if headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return 401, {"error": {"message": "Unauthorized", "code": 1201}}
        if path == "/v3/resources/search":
            plan = {"crn": CRN, "name": "loopback", "service_plan_unique_id": "open", "tags": []}
            return 200, {"items": [plan | {"doc": {"extensions": [{"limits": {}}]}}]}
        if path == "/catalog/open":
            return 200, {"overview_ui": {"en": {"display_name": "Open"}}, "metadata": {"pricing": {"type": "free"}}}
        if headers.get("Service-CRN") != CRN or not headers.get("IBM-API-Version"):
            return 403, {"error": {"message": "no such instance", "code": 1203}}
        for verb, pattern, do in self._routes():
            match = re.fullmatch(f"/api/v1{pattern}", path)
            if verb == method and match:
                return do(*match.groups(), query=query, body=json.loads(body) if body else {})
        return 404, {"error": {"message": f"no {method} {path}", "code": 1291}}

    def _routes(self) -> list[tuple[str, str, Callable[..., Any]]]:
        return [
            ("GET", "/instances/usage", lambda **_: (200, {"usage_consumed_seconds": 1, "usage_limit_seconds": 600})),
            ("GET", "/backends", lambda **_: (200, {"devices": [self._device()]})),
            ("GET", f"/backends/{DEVICE}/configuration", lambda **_: (200, self._configuration)),
            ("GET", f"/backends/{DEVICE}/properties", lambda **_: (200, self._properties)),
            ("GET", f"/backends/{DEVICE}/status", lambda **_: (200, self._status())),
            ("POST", "/sessions", self._open_session),
            ("PATCH", "/sessions/([^/]+)", self._close_session),
            ("POST", "/jobs", self._accept),
            ("GET", "/jobs", self._list),
            ("GET", "/jobs/([^/]+)", self._of(lambda job: (200, job.document() | self._told(job)))),
            ("GET", "/jobs/([^/]+)/results", self._of(self._results)),
            ("GET", "/jobs/([^/]+)/metrics", self._of(self._metrics)),
            ("POST", "/jobs/([^/]+)/cancel", self._of(self._cancel)),
        ]

    def _token(self, form: dict[str, list[str]]) -> Any:
        if form.get("apikey") != [API_KEY]:
            return 400, {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."}
        now = int(time.time())

        def part(document: dict[str, Any]) -> str:
            return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

        token = f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part({'iat': now, 'exp': now + 3600})}.c2lnbmF0dXJl"
        self.tokens.add(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "expiration": now + 3600}

    def _device(self) -> dict[str, Any]:
        waiting = sum(job.status in ("Queued", "Running") for job in self.jobs.values())
        size = self._configuration["n_qubits"]
        return {"name": DEVICE, "qubits": size, "status": {"name": "online"}, "queue_length": waiting}

    def _status(self) -> dict[str, Any]:
        waiting = self._device()["queue_length"]
        return {"state": True, "status": "active", "length_queue": waiting, "backend_version": "1.0.0"}

    def _open_session(self, query: Any, body: dict[str, Any]) -> Any:
        name = f"session-{len(self.sessions)}"
        self.sessions[name] = {"id": name, "mode": body["mode"], "accepting_jobs": True}
        return 200, self.sessions[name]

    def _close_session(self, name: str, query: Any, body: dict[str, Any]) -> Any:
        self.sessions[name]["accepting_jobs"] = body["accepting_jobs"]
        return 204, {}

    def _accept(self, query: Any, body: dict[str, Any]) -> Any:
        tags = body.get("tags", [])
        if body["backend"] != DEVICE or body["program_id"] != "executor":
            return 400, {"error": {"message": "unknown backend or program", "code": 1206}}
        if len(tags) > 8 or any(not 1 <= len(tag) <= 86 for tag in tags):
            return 400, {"error": {"message": "a tag is too long", "code": 1205}}
        session = body.get("session_id")
        if session and not self.sessions[session]["accepting_jobs"]:
            return 400, {"error": {"message": "the session is closed", "code": 1217}}
        with self._lock:
            job = ServedJob(f"d{len(self.jobs):019d}", body)
            self.jobs[job.id] = job
        self._work.submit(self._run, job)
        return 200, {"id": job.id, "backend": DEVICE}

    def _run(self, job: ServedJob) -> None:
        while self.held and job.status == "Queued":
            time.sleep(0.01)
        with self._lock:
            if job.status != "Queued":
                return
            job.status, job.running = "Running", _now()
        try:
            if self.fail_with:
                job.reason, job.reason_code = self.fail_with
                raise RuntimeError(job.reason)
            job.result, status = execute(self._simulator, job.body["params"], seed=len(job.id)), "Completed"
        except Exception as error:
            job.result, job.reason, status = str(error), job.reason or f"{type(error).__name__}: {error}", "Failed"
        job.finished, job.status = _now(), status

    def _list(self, query: dict[str, list[str]], body: Any) -> Any:
        wanted = set(query.get("tags", []))
        found = [job for job in reversed(self.jobs.values()) if wanted <= set(job.body.get("tags", []))]
        start, limit = int(query.get("offset", ["0"])[0]), int(query.get("limit", ["200"])[0])
        page = [job.document() for job in found[start : start + limit]]
        return 200, {"jobs": page, "count": len(found), "limit": limit, "offset": start}

    def _of(self, do: Callable[[ServedJob], Any]) -> Callable[..., Any]:
        def found(job_id: str, query: Any, body: Any) -> Any:
            if job_id not in self.jobs:
                return 404, {"error": {"message": "Job not found", "code": 1291}}
            return do(self.jobs[job_id])

        return found

    def _told(self, job: ServedJob) -> dict[str, Any]:
        return {"state": {"status": self.word}} if self.word else {}

    def _results(self, job: ServedJob) -> Any:
        return 200, job.result[: len(job.result) // 2] if self.garbled else job.result

    def _metrics(self, job: ServedJob) -> Any:
        times = {"created": job.created, "running": job.running, "finished": job.finished}
        usage = {"qpu_charge_time_seconds": 2, "status": "complete" if job.finished else "pending"}
        return 200, {"timestamps": times, "usage": usage}

    def _cancel(self, job: ServedJob) -> Any:
        with self._lock:
            if job.status not in ("Queued", "Running"):
                return 409, {"error": {"message": "the job has ended", "code": 1262}}
            job.status, job.finished = "Cancelled", _now()
        return 204, {}


@cache
def _device() -> tuple[Any, Any]:
    """A fake device, and a simulator with its noise, which takes longer to make than most jobs."""
    from qiskit_aer import AerSimulator
    from qiskit_ibm_runtime.fake_provider import FakeOslo

    fake = FakeOslo()
    return fake, AerSimulator.from_backend(fake, max_parallel_threads=1)


def execute(simulator: Any, params: dict[str, Any], seed: int) -> str:
    """Run the ``executor`` program of the library's schema v2.0; the result in the same schema."""
    from ibm_quantum_schemas.common import CompressedTensorModel
    from ibm_quantum_schemas.executor.version_2_0 import ParamsModel, QuantumProgramResultModel
    from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
    from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
    from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0

    model = ParamsModel.model_validate(params)
    program, _ = quantum_program_from_2_0(model)
    for item in program.items:
        # what twirling sends: a circuit with the recipe of its randomizations
        if hasattr(item, "samplex"):
            item.samplex.finalize()
    ran = run_quantum_program(simulator, program, SimulatorOptions(seed_simulator=seed))
    items = [
        {"results": {name: CompressedTensorModel.from_numpy(values) for name, values in item.items()}, "metadata": {}}
        for item in ran
    ]
    return QuantumProgramResultModel(
        data=items,
        metadata={"chunk_timing": []},
        passthrough_data=model.quantum_program.passthrough_data,
        semantic_role=model.quantum_program.semantic_role,
    ).model_dump_json()


def _handler(server: IbmServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            answer = server.answer(self.command, parts.path, parse_qs(parts.query), body, self.headers)
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, document, headers = answer
            data = document.encode() if isinstance(document, str) else json.dumps(document).encode()
            data = b"" if status == 204 else data
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
