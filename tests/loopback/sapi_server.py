"""The part of SAPI, D-Wave's REST interface, that its own client needs, on loopback: problems are really sampled.

Speaks solver definitions, multipart upload of models, submit, list by id or label, status, answers in the client's
``qp`` and ``bq`` encodings, cancel, and refusals. Faults are queued with ``fail``; ``hold`` keeps problems waiting.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import uuid
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dimod
import numpy as np
from dwave.cloud.testing.mocks import hybrid_bqm_solver_data, qpu_pegasus_solver_data
from dwave.samplers import SimulatedAnnealingSampler

LOST = "lost answer"


class SapiServer:
    """A SAPI for one token. Use as a context manager."""

    def __init__(self, token: str, size: int = 4) -> None:
        self.token = token
        self.qpu = qpu_pegasus_solver_data(size, name="Loopback_system1", avg_load=0.1)
        self.solvers = [self.qpu, hybrid_bqm_solver_data(avg_load=0.2, minimum_time_limit=[[1, 0.5], [4096, 4.0]])]
        self.problems: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        self.hold = False
        self._faults: list[tuple[str, Any]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/sapi/v2/"

    def __enter__(self) -> SapiServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, method: str, what: int | str, headers: dict[str, str] | None = None) -> None:
        """The next request of this method gets this status code, or ``LOST``: it is done, the answer is not sent."""
        with self._lock:
            self._faults.append((method, (what, headers or {})))

    def fault(self, method: str) -> tuple[Any, dict[str, str]] | None:
        with self._lock:
            for index, (of, fault) in enumerate(self._faults):
                if of == method:
                    del self._faults[index]
                    return fault
        return None

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take a problem, or answer an error item."""
        solver = next((s for s in self.solvers if s["identity"]["name"] == body["solver"]["name"]), None)
        if solver is None or body["type"] not in solver["properties"]["supported_problem_types"]:
            return {"error_code": 400, "error_msg": f"no solver {body['solver']['name']} for {body['type']} problems"}
        problem = {
            "id": str(uuid.uuid4()),
            "type": body["type"],
            "solver": solver["identity"],
            "label": body.get("label"),
            "status": "PENDING",
            "submitted_on": _now(),
        }
        with self._lock:
            self.problems[problem["id"]] = {"public": problem, "body": body, "solver": solver}
        return dict(problem)

    def look(self, id_: str) -> dict[str, Any] | None:
        """A problem as it is now; whatever may run has run."""
        with self._lock:
            entry = self.problems.get(id_)
            if entry is None:
                return None
            if entry["public"]["status"] == "PENDING" and not self.hold:
                solve = _sampled if entry["body"]["type"] in ("ising", "qubo") else self._model_sampled
                entry["answer"] = solve(entry["body"], entry["solver"])
                entry["public"] |= {"status": "COMPLETED", "solved_on": _now()}
            return entry

    def cancel(self, id_: str) -> tuple[int, dict[str, Any]]:
        with self._lock:
            entry = self.problems.get(id_)
            if entry is None:
                return 404, {"error_code": 404, "error_msg": "Problem not found"}
            if entry["public"]["status"] != "PENDING":
                return 409, {"error_code": 409, "error_msg": "Problem has been finished."}
            entry["public"] |= {"status": "CANCELLED", "solved_on": _now()}
            return 200, entry["public"]

    def _model_sampled(self, body: dict[str, Any], _solver: dict[str, Any]) -> dict[str, Any]:
        parts = self.uploads[body["data"]["data"]]
        model = dimod.BinaryQuadraticModel.from_file(io.BytesIO(b"".join(parts[i] for i in sorted(parts))))
        best = SimulatedAnnealingSampler().sample(model, num_reads=20, seed=1).truncate(1)
        best.info.clear()
        best.info.update(run_time=3_000_000, charge_time=3_000_000, qpu_access_time=12_345)
        return {"format": "bq", "data": best.to_serializable()}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _sampled(body: dict[str, Any], solver: dict[str, Any]) -> dict[str, Any]:
    """Decode ``qp``, sample the Ising problem, encode ``qp``."""
    properties = solver["properties"]
    qubits, couplers = properties["qubits"], properties["couplers"]
    linear = np.frombuffer(base64.b64decode(body["data"]["lin"]), "<f8")
    active = [qubit for qubit, bias in zip(qubits, linear, strict=True) if not np.isnan(bias)]
    pairs = [pair for pair in couplers if set(pair) <= set(active)]
    quadratic = np.frombuffer(base64.b64decode(body["data"]["quad"]), "<f8")
    fields = dict(zip(qubits, linear.tolist(), strict=True))
    model = dimod.BinaryQuadraticModel(
        {qubit: fields[qubit] for qubit in active},
        {(a, b): bias for (a, b), bias in zip(pairs, quadratic.tolist(), strict=True)},
        body["data"].get("offset", 0.0),
        "SPIN" if body["type"] == "ising" else "BINARY",
    )
    reads = body["params"]["num_reads"]
    samples = SimulatedAnnealingSampler().sample(model, num_reads=reads, num_sweeps=200, seed=1).aggregate()
    order = [samples.variables.index(qubit) for qubit in active]
    bits = (samples.record.sample[:, order] > 0).astype(np.uint8)
    access = 15_000.0 + 120.0 * reads
    return {
        "format": "qp",
        "active_variables": _text(np.array(active, "<i4")),
        "energies": _text(samples.record.energy.astype("<f8")),
        "solutions": _text(np.packbits(bits, axis=1)),
        "num_occurrences": _text(samples.record.num_occurrences.astype("<i4")),
        "num_variables": properties["num_qubits"],
        "timing": {
            "qpu_access_time": access,
            "qpu_programming_time": 15_000.0,
            "qpu_sampling_time": access - 15_000.0,
            "qpu_anneal_time_per_sample": 20.0,
        },
    }


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _handler(sapi: SapiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            self._serve()

        do_POST = do_PUT = do_DELETE = do_GET

        def _serve(self) -> None:
            body = self._body()
            path, query = urlsplit(self.path).path.removeprefix("/sapi/v2/"), parse_qs(urlsplit(self.path).query)
            sapi.requests.append((self.command, path))
            fault = sapi.fault(self.command)
            if self.headers.get("X-Auth-Token") != sapi.token:
                # what a careless service does: it repeats the secret
                echo = f"Invalid token {self.headers.get('X-Auth-Token')}"
                return self._answer(401, {"error_code": 401, "error_msg": echo})
            if fault and fault[0] != LOST:
                if fault[0] == 200:
                    return self._answer(200, None, {}, raw=b'{"id": "gar')
                said = {"error_code": fault[0], "error_msg": f"fault with {sapi.token}"}
                return self._answer(fault[0], said, fault[1])
            code, answer = self._routed(path, query, body)
            if fault:
                self.close_connection = True
                self.connection.close()
                return None
            return self._answer(code, answer)

        def _routed(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
            place = path.strip("/").split("/")
            match self.command, place:
                case "GET", ["solvers", "remote"]:
                    return 200, sapi.solvers
                case "GET", ["solvers", "remote", name]:
                    found = [solver for solver in sapi.solvers if solver["identity"]["name"] == name]
                    return (200, found[0]) if found else (404, {"error_code": 404, "error_msg": "no such solver"})
                case "POST", ["problems"]:
                    asked = json.loads(body)
                    if isinstance(asked, dict):
                        taken = sapi.submit(asked)
                        return (taken["error_code"], taken) if "error_code" in taken else (200, taken)
                    return 200, [sapi.submit(one) for one in asked]
                case "GET", ["problems"]:
                    return 200, self._listed(query)
                case "GET", ["problems", id_]:
                    entry = sapi.look(id_)
                    if entry is None:
                        return 404, {"error_code": 404, "error_msg": "Problem not found"}
                    return 200, entry["public"] | ({"answer": entry["answer"]} if "answer" in entry else {})
                case "DELETE", ["problems", id_]:
                    return sapi.cancel(id_)
                case "POST", ["bqm", "multipart"]:
                    id_ = str(uuid.uuid4())
                    sapi.uploads[id_] = {}
                    return 200, {"id": id_}
                case "GET", ["bqm", "multipart", id_, "status"]:
                    parts = [
                        {"part_number": number, "checksum": hashlib.md5(part).hexdigest()}
                        for number, part in sapi.uploads[id_].items()
                    ]
                    return 200, {"status": "UPLOAD_IN_PROGRESS", "parts": parts}
                case "PUT", ["bqm", "multipart", id_, "part", number]:
                    sapi.uploads[id_][int(number)] = body
                    return 200, {}
                case "POST", ["bqm", "multipart", id_, "combine"]:
                    return 200, {}
            return 404, {"error_code": 404, "error_msg": "no such place"}

        def _listed(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
            ids = query["id"][0].split(",") if "id" in query else list(sapi.problems)
            entries = [entry for entry in map(sapi.look, ids) if entry]
            wanted = query.get("label", [None])[0]
            return [e["public"] for e in entries if wanted is None or wanted in (e["public"]["label"] or "")]

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                body = b"".join(chunks)
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return zlib.decompress(body) if self.headers.get("Content-Encoding") == "deflate" else body

        def _answer(
            self, code: int, document: Any, headers: dict[str, str] | None = None, raw: bytes | None = None
        ) -> None:
            text = json.dumps(document).encode() if raw is None else raw
            self.send_response(code)
            # the client insists on the media type and version it asked for
            self.send_header("Content-Type", self.headers.get("Accept") or "application/json")
            self.send_header("Content-Length", str(len(text)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

    return Handler
