"""The emulator's HTTP interface: who may ask, how often, and what the answers look like, faults included.

Here: routes, tokens, the rate limit. Not here: what a fault does on the wire (``answers``), durable state (``store``),
running jobs (``engine``), devices (``devices``), the process (``running``). The interface is in ``docs/emulator.md``.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp

from resources.emulator.answers import Refused, Wire, after, before, body_of
from resources.emulator.devices import DEVICES, CircuitError, calibration_of, check_circuit, digest_of_program
from resources.emulator.engine import Engine
from resources.emulator.faults import FaultRule, Faults, Route, plan_from
from resources.emulator.store import NewJob, Store
from resources.failures import InputError

#: What the service says of a job's state; ``unknown_status`` says the last word.
UNHEARD_OF = "defragmenting"
#: Retry-After, seconds, of a device in maintenance is what is left of it, but at least this.
_SHORTEST_WAIT = 0.1

Handler = Callable[[Request, "FaultRule | None"], Awaitable[Response]]


class _Circuit(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal["qasm3", "qasm2", "qpy"]
    program: str = Field(max_length=20_000_000)
    bindings: list[list[float]] = Field(default=[[]], min_length=1, max_length=1000)


class _Submission(BaseModel):
    model_config = ConfigDict(extra="forbid")

    device: str
    circuits: list[_Circuit] = Field(min_length=1, max_length=100)
    shots: int = Field(ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0)
    priority: int = 0
    tags: list[str] = Field(default=[], max_length=20)
    metadata: dict[str, Any] = {}
    idempotency_key: str | None = Field(default=None, max_length=200)


_SUBMISSION = TypeAdapter(_Submission)


@dataclass
class _Bucket:
    """Token bucket: ``rate`` calls a second, twice as many in a burst."""

    rate: float
    level: float = field(init=False)
    at: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self.level = 2 * self.rate

    def wait(self) -> float:
        """0 and one call taken, or the seconds until the next one may come."""
        now = time.monotonic()
        self.level = min(2 * self.rate, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate


@dataclass
class Service:
    """The routes over a store and an engine.

    Attributes:
        token, admin_token: bearer tokens; without the latter ``/admin`` is closed.
        queue_seconds: every job waits at least so long.
        rate: calls a second.
    """

    store: Store
    engine: Engine
    faults: Faults
    token: str
    admin_token: str | None
    queue_seconds: float
    rate: float
    workers: int

    def __post_init__(self) -> None:
        self._bucket = _Bucket(self.rate)

    def app(self) -> ASGIApp:
        """The ASGI application."""

        def call(route: Route, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
            async def endpoint(request: Request) -> Response:
                return await self._call(route, handler, request)

            return endpoint

        def admin(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
            async def endpoint(request: Request) -> Response:
                try:
                    self._authorize(request, self.admin_token)
                    return await handler(request)
                except Refused as refused:
                    return refused.response()

            return endpoint

        @asynccontextmanager
        async def life(_: Starlette) -> Any:
            self.engine.start()
            yield
            await run_in_threadpool(self.engine.stop)
            self.store.close()

        routes = [
            Path("/health", self._health),
            Path("/devices", call("devices", self._devices)),
            Path("/devices/{name}/calibration", call("calibration", self._calibration)),
            Path("/jobs", call("submit", self._submit), methods=["POST"]),
            Path("/jobs", call("find", self._find)),
            Path("/jobs/statuses", call("statuses", self._statuses), methods=["POST"]),
            Path("/jobs/{id}", call("status", self._status)),
            Path("/jobs/{id}/results", call("result", self._result)),
            Path("/jobs/{id}/cancel", call("cancel", self._cancel), methods=["POST"]),
            Path("/usage", call("usage", self._usage)),
            Path("/admin/faults", admin(self._faults), methods=["GET", "PUT"]),
            Path("/admin/executions", admin(self._executions)),
        ]
        return Wire(Starlette(routes=routes, lifespan=life))

    # --- every call -----------------------------------------------------------------------------------------------

    def _authorize(self, request: Request, token: str | None) -> None:
        given = request.headers.get("authorization", "")
        if token is None or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise Refused(401, "unauthorized", "the bearer token is missing or wrong")

    async def _call(self, route: Route, handler: Handler, request: Request) -> Response:
        fault: FaultRule | None = None
        try:
            self._authorize(request, self.token)
            if wait := self._bucket.wait():
                raise Refused(429, "too_many_requests", f"more than {self.rate:g} calls a second", max(wait, 0.001))
            fault = self.faults.draw(route)
            if fault is not None:
                await before(fault, request)
            response = await handler(request, fault)
        except Refused as refused:
            response = refused.response()
        if fault is not None:
            return await after(fault, request, response)
        return response

    # --- routes ---------------------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _devices(self, request: Request, fault: FaultRule | None) -> Response:
        return JSONResponse({"devices": [self._described(name) for name in DEVICES]})

    def _described(self, name: str) -> dict[str, Any]:
        model, state = DEVICES[name], self.store.device(name)
        waiting, mean = self.store.queue(name)
        away = max(0.0, state.maintenance_until - time.time())
        return {
            "name": name,
            "qubits": model.qubits,
            "coupling_map": [list(pair) for pair in model.couplings],
            "status": "maintenance" if away else "online",
            "queue_length": waiting,
            "estimated_wait": away + self.queue_seconds + waiting * mean / self.workers,
            "price": model.price.model_dump(),
        }

    async def _calibration(self, request: Request, fault: FaultRule | None) -> Response:
        name = request.path_params["name"]
        if name not in DEVICES:
            raise Refused(404, "no_such_device", f"there is no device {name!r}")
        state = self.store.device(name)
        return JSONResponse(self._calibrated(name, state.calibration, state.calibrated_at))

    def _calibrated(self, name: str, number: int, at: float) -> dict[str, Any]:
        return calibration_of(name, number) | {"time": datetime.fromtimestamp(at, UTC).isoformat()}

    async def _submit(self, request: Request, fault: FaultRule | None) -> Response:
        document = _unfolded(await body_of(request))
        if fault is not None and fault.fault == "maintenance":
            for entry in document if isinstance(document, list) else [document]:
                if isinstance(entry, dict) and entry.get("device") in DEVICES:
                    self.store.maintain(entry["device"], time.time() + fault.lasting)
        if not isinstance(document, list):
            document = {"idempotency_key": request.headers.get("idempotency-key"), **document}
            (answer,) = await run_in_threadpool(self._accept, [document])
            if isinstance(answer, Refused):
                raise answer
            return JSONResponse(answer)
        answers = await run_in_threadpool(self._accept, document)
        return JSONResponse(
            {
                "jobs": [
                    {"error": {"code": answer.code, "message": answer.message, "status": answer.status}}
                    if isinstance(answer, Refused)
                    else answer
                    for answer in answers
                ]
            }
        )

    def _accept(self, documents: list[Any]) -> list[dict[str, Any] | Refused]:
        """One answer per entry; what is good is kept in one transaction."""
        checked: list[NewJob | Refused] = []
        now = time.time()
        away = {name: self.store.device(name).maintenance_until - now for name in DEVICES}
        for document in documents:
            try:
                checked.append(_checked(document, away))
            except Refused as refused:
                checked.append(refused)
        ids = iter(self.store.add([job for job in checked if isinstance(job, NewJob)], self.queue_seconds))
        self.engine.wake()
        return [
            {"id": next(ids), "key": job.key, "status": "queued"} if isinstance(job, NewJob) else job for job in checked
        ]

    async def _find(self, request: Request, fault: FaultRule | None) -> Response:
        tag = request.query_params.get("tag")
        if not tag:
            raise Refused(422, "no_tag", "name a tag: /jobs?tag=...")
        return JSONResponse({"jobs": [{"id": row["id"], "status": row["state"]} for row in self.store.tagged(tag)]})

    async def _statuses(self, request: Request, fault: FaultRule | None) -> Response:
        document = await body_of(request)
        ids = document.get("ids") if isinstance(document, dict) else None
        if not isinstance(ids, list) or len(ids) > 1000 or not all(isinstance(i, str) for i in ids):
            raise Refused(422, "no_ids", 'send {"ids": [...]}, at most 1000')
        strange = fault is not None and fault.fault == "unknown_status"
        found = {row["id"]: UNHEARD_OF if strange else row["state"] for row in self.store.jobs(ids)}
        return JSONResponse({"statuses": found})

    async def _status(self, request: Request, fault: FaultRule | None) -> Response:
        row = self._job(request)
        answer = {"id": row["id"], "status": row["state"], "device": row["device"], "error": row["error"]}
        if row["state"] == "queued":
            position, (_, mean) = self.store.position(row), self.store.queue(row["device"])
            due = max(row["due_at"], self.store.device(row["device"]).maintenance_until)
            answer["position"] = position
            answer["estimated_wait"] = max(0.0, due - time.time()) + position * mean / self.workers
        if fault is not None and fault.fault == "unknown_status":
            answer["status"] = UNHEARD_OF
        return JSONResponse(answer)

    def _job(self, request: Request) -> sqlite3.Row:
        row = self.store.job(request.path_params["id"])
        if row is None:
            raise Refused(404, "no_such_job", "there is no such job")
        return row

    async def _result(self, request: Request, fault: FaultRule | None) -> Response:
        row = self._job(request)
        if row["state"] != "completed":
            raise Refused(409, "no_result", f"the job is {row['state']}")
        if not self.store.read_result(row["id"], last=fault is not None and fault.fault == "result_once"):
            raise Refused(410, "gone", "the result has been read and is gone")
        if fault is not None and fault.fault == "foreign_result":
            other = self.store.another(row["id"])
            if other is None:
                document = self._document(row) | {"id": "job-of-somebody-else", "tags": ["somebody-else"]}
            else:
                document = self._document(other)
        else:
            document = self._document(row)
        if fault is not None and fault.fault == "partial_result":
            for rows in document["results"]:
                for counts in rows:
                    counts.pop(next(iter(counts)))
        body = json.dumps(document)
        if fault is not None and fault.fault == "garbled_result":
            body = body[: len(body) // 2].replace('":', '"~')
        return Response(body, media_type="application/json")

    def _document(self, row: sqlite3.Row) -> dict[str, Any]:
        return {
            "id": row["id"],
            "device": row["device"],
            "tags": self.store.tags(row["id"]),
            "metadata": json.loads(row["metadata"]),
            "shots": row["shots"],
            "results": json.loads(row["counts"]),
            "calibration": self._calibrated(row["device"], row["calibration"], row["calibrated_at"])
            | {"noise_model": row["noise"]},
            "timings": {"queue": row["started_at"] - row["created_at"], "execute": row["seconds"]},
            "cost": row["cost"],
        }

    async def _cancel(self, request: Request, fault: FaultRule | None) -> Response:
        row = self._job(request)
        cancelled = self.store.cancel(row["id"])
        return JSONResponse({"id": row["id"], "status": "cancelled" if cancelled else row["state"]})

    async def _usage(self, request: Request, fault: FaultRule | None) -> Response:
        return JSONResponse({"usage": self.store.usage()})

    # --- administration -------------------------------------------------------------------------------------------

    async def _faults(self, request: Request) -> Response:
        if request.method == "PUT":
            try:
                self.faults.replace(plan_from(await body_of(request), "fault plan"))
            except InputError as error:
                raise Refused(422, "invalid_plan", str(error)) from None
        return JSONResponse({"plan": self.faults.plan.model_dump(exclude_none=True), "shown": self.faults.shown()})

    async def _executions(self, request: Request) -> Response:
        return JSONResponse({"executions": self.store.executions()})


def _unfolded(document: Any) -> Any:
    """A submission whose circuits name their programs by position, as the list of its jobs."""
    if not isinstance(document, dict) or "jobs" not in document:
        return document
    jobs, programs = document["jobs"], document.get("programs")
    if not isinstance(jobs, list) or not isinstance(programs, list):
        raise Refused(422, "invalid_job", 'send {"programs": [...], "jobs": [...]}')
    for job in jobs:
        circuits = job.get("circuits") if isinstance(job, dict) else None
        for circuit in circuits if isinstance(circuits, list) else ():
            number = circuit.get("program") if isinstance(circuit, dict) else None
            if type(number) is int and 0 <= number < len(programs):
                circuit["program"] = programs[number]
    return jobs


def _checked(document: Any, away: Mapping[str, float]) -> NewJob:
    """A job as it may be kept; ``away``: seconds for which each device is in maintenance."""
    try:
        job = _SUBMISSION.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Refused(422, "invalid_job", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if job.device not in DEVICES:
        raise Refused(404, "no_such_device", f"there is no device {job.device!r}")
    if away[job.device] > 0:
        raise Refused(423, "maintenance", f"{job.device} is in maintenance", max(away[job.device], _SHORTEST_WAIT))
    try:
        for circuit in job.circuits:
            check_circuit(job.device, circuit.format, circuit.program, circuit.bindings)
    except CircuitError as error:
        raise Refused(422, "invalid_circuit", str(error)) from None
    circuits = tuple((c.format, c.program, digest_of_program(c.format, c.program), c.bindings) for c in job.circuits)
    return NewJob(
        *(job.idempotency_key, job.device, circuits, job.shots, job.seed, job.priority),
        *(tuple(job.tags), job.metadata),
    )
