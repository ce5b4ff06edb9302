"""The part of Amazon Braket and S3 that boto3 needs for quantum tasks, on loopback: circuits are really run.

Creates tasks (a client token known from before answers with its task), lists, describes and cancels them, and serves
results by path like S3. Faults are queued with ``fail``; ``hold`` keeps tasks waiting. Signatures are not verified,
only whose access key they name.
"""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LOST = "lost answer"
PROGRAM_SET = "braket.ir.openqasm.program_set"


class BraketServer:
    """A Braket and an S3 for one access key. Use as a context manager."""

    def __init__(self, access_key: str) -> None:
        self.access_key = access_key
        self.tasks: dict[str, dict[str, Any]] = {}
        self.by_token: dict[str, tuple[str, str]] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.hold = False
        self.page = 100
        self.device_status = "ONLINE"
        self.program_sets: dict[str, Any] | None = {
            "actionType": PROGRAM_SET,
            "version": ["1"],
            "maximumExecutables": 100,
            "maximumTotalShots": 200_000,
        }
        #: Results of program sets have their parts in files of their own.
        self.scattered = False
        self._faults: list[tuple[str, int | str, str, dict[str, str]]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> BraketServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, place: str, status: int | str, code: str = "", headers: dict[str, str] | None = None) -> None:
        """The next request whose path starts with ``place`` gets this error, or ``LOST``: done, but not answered."""
        with self._lock:
            self._faults.append((place, status, code, headers or {}))

    def fault(self, path: str) -> tuple[int | str, str, dict[str, str]] | None:
        with self._lock:
            for index, (place, *fault) in enumerate(self._faults):
                if path.startswith(place):
                    del self._faults[index]
                    return tuple(fault)
        return None

    def device(self, arn: str) -> dict[str, Any]:
        """A device's description, its calibration cut down to four qubits."""

        def fidelity(kind: str, value: float) -> dict[str, Any]:
            return {"fidelityType": {"name": kind}, "fidelity": value}

        one = [fidelity("RANDOMIZED_BENCHMARKING", 0.999), fidelity("READOUT", 0.97), fidelity("OTHER", 0.1)]
        capabilities = {
            "action": {PROGRAM_SET: self.program_sets} if self.program_sets else {},
            "service": {"shotsRange": [1, 20_000], "updatedAt": "2026-11-21T08:00:00+00:00"},
            "paradigm": {"qubitCount": 20},
            "standardized": {
                "oneQubitProperties": {str(i): {"oneQubitFidelity": one} for i in range(1, 5)},
                "twoQubitProperties": {
                    pair: {"twoQubitGateFidelity": [{"gateName": "CZ", "fidelity": value}]}
                    for pair, value in {"1-2": 0.98, "2-3": 0.99, "3-4": 1.0}.items()
                },
            },
        }
        return {
            "deviceArn": arn,
            "deviceName": arn.rsplit("/")[-1],
            "providerName": arn.split("/")[-2],
            "deviceType": "QPU" if "/qpu/" in arn else "SIMULATOR",
            "deviceStatus": self.device_status,
            "deviceCapabilities": json.dumps(capabilities),
        }

    def create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        token, same = body["clientToken"], json.dumps(body, sort_keys=True)
        with self._lock:
            if token in self.by_token:
                arn, first = self.by_token[token]
                if first != same:
                    return 400, {"__type": "ValidationException", "message": "token used with other parameters"}
                return 201, {"quantumTaskArn": arn}
            arn = f"arn:aws:braket:us-east-1:123456789012:quantum-task/{uuid.uuid4()}"
            self.by_token[token] = (arn, same)
            self.tasks[arn] = {
                "quantumTaskArn": arn,
                "status": "QUEUED",
                "deviceArn": body["deviceArn"],
                "deviceParameters": "{}",
                "shots": body["shots"],
                "outputS3Bucket": body["outputS3Bucket"],
                "outputS3Directory": f"{body['outputS3KeyPrefix']}/{arn.rsplit('/')[-1]}",
                "createdAt": _now(),
                "tags": body.get("tags", {}),
                "action": body["action"],
            }
            return 201, {"quantumTaskArn": arn}

    def look(self, arn: str) -> dict[str, Any] | None:
        """A task as it is now; whatever may run has run."""
        with self._lock:
            task = self.tasks.get(arn)
            if task and task["status"] == "QUEUED" and not self.hold:
                result, folder = _run(task), f"{task['outputS3Bucket']}/{task['outputS3Directory']}"
                if self.scattered:
                    result = self._scatter(json.loads(result), task)
                self.objects[f"{folder}/results.json"] = result
                task |= {"status": "COMPLETED", "endedAt": _now()}
            return task

    def _scatter(self, whole: dict[str, Any], task: dict[str, Any]) -> bytes:
        """Store each part in a file, and put its relative path in the place of it."""
        bucket, folder = task["outputS3Bucket"], task["outputS3Directory"]

        def stored(path: str, part: dict[str, Any]) -> str:
            self.objects[f"{bucket}/{folder}/{path}"] = json.dumps(part).encode()
            return path

        for i, program in enumerate(whole["programResults"]):
            program["executableResults"] = [
                stored(f"programs/{i}/executables/{k}.json", one) for k, one in enumerate(program["executableResults"])
            ]
            program["source"] = stored(f"programs/{i}/program.json", program["source"])
            whole["programResults"][i] = stored(f"programs/{i}/results.json", program)
        whole["taskMetadata"] = stored("metadata.json", whole["taskMetadata"])
        whole["s3Location"] = [bucket, folder]
        return json.dumps(whole).encode()

    def listed(self, body: dict[str, Any]) -> dict[str, Any]:
        devices = {f["name"]: f["values"] for f in body.get("filters", [])}.get("deviceArn")
        found = [task for task in map(self.look, list(self.tasks)) if devices is None or task["deviceArn"] in devices]
        start = int(body.get("nextToken") or 0)
        more = {"nextToken": str(start + self.page)} if len(found) > start + self.page else {}
        summary = [
            {k: v for k, v in task.items() if k not in ("action", "deviceParameters")}
            for task in found[start : start + self.page]
        ]
        return {"quantumTasks": summary, **more}

    def cancel(self, arn: str) -> tuple[int, dict[str, Any]]:
        task = self.tasks.get(arn)
        if task is None:
            return 404, {"__type": "ResourceNotFoundException", "message": "no such task"}
        if task["status"] in ("COMPLETED", "FAILED", "CANCELLED"):
            return 409, {"__type": "ConflictException", "message": "the task has ended"}
        task |= {"status": "CANCELLED", "endedAt": _now()}
        return 200, {"quantumTaskArn": arn, "cancellationStatus": "CANCELLING"}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _run(task: dict[str, Any]) -> bytes:
    from braket.default_simulator import StateVectorSimulator
    from braket.ir.openqasm import Program, ProgramSet

    kind = ProgramSet if json.loads(task["action"])["braketSchemaHeader"]["name"] == PROGRAM_SET else Program
    program = kind.parse_raw(task["action"])
    result: str = StateVectorSimulator().run(program, shots=task["shots"]).json()
    return result.encode()


def _handler(service: BraketServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            service.requests.append((self.command, path))
            fault = service.fault(path)
            if f"Credential={service.access_key}/" not in self.headers.get("Authorization", ""):
                said = f"no such key: {self.headers.get('Authorization')}"
                return self._answer(403, {"__type": "UnrecognizedClientException", "message": said})
            if fault and fault[0] != LOST:
                return self._answer(int(fault[0]), {"__type": fault[1], "message": "a fault"}, fault[2])
            status, answer = self._routed(path, body)
            if fault:
                self.close_connection = True
                self.connection.close()
                return None
            return self._answer(status, answer)

        do_POST = do_PUT = do_GET

        def _routed(self, path: str, body: bytes) -> tuple[int, Any]:
            match self.command, [unquote(part) for part in path.strip("/").split("/")]:
                case "POST", ["quantum-task"]:
                    return service.create(json.loads(body))
                case "POST", ["quantum-tasks"]:
                    return 200, service.listed(json.loads(body))
                case "GET", ["quantum-task", arn]:
                    task = service.look(arn)
                    if task is None:
                        return 404, {"__type": "ResourceNotFoundException", "message": "no such task"}
                    return 200, {key: value for key, value in task.items() if key != "action"}
                case "GET", ["device", arn]:
                    return 200, service.device(arn)
                case "PUT", ["quantum-task", arn, "cancel"]:
                    return service.cancel(arn)
                case "GET", _ if (stored := service.objects.get(unquote(path).strip("/"))) is not None:
                    return 200, stored
            return 404, b"<Error><Code>NoSuchKey</Code><Message>not here</Message></Error>"

        def _answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
            text = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            if not isinstance(document, bytes) and "__type" in document:
                self.send_header("x-amzn-ErrorType", document["__type"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

    return Handler
