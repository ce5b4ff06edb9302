"""What a submission to the provider emulator is made of: the problem, its fitted circuit, each program once.

Here: what jobs share. Not here: the job itself and the calls (``emulator``), fitting (``resources.circuits.device``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from resources.circuits.ising import Ising, Structure
from resources.emulator.devices import as_qpy, backend_of, emulated_backend
from resources.envelope import Compilation, JobEnvelope
from resources.payloads import Payload, model_of

if TYPE_CHECKING:
    from qiskit.providers import BackendV2

    from resources.circuits.device import Prepared


@dataclass(eq=False)
class Problem:
    """A payload, and what every job that asks for it needs of it."""

    envelope: JobEnvelope
    payload: Payload

    @cached_property
    def ising(self) -> Ising:
        """Its Ising form."""
        return Ising.from_bqm(model_of(self.envelope, self.payload))

    @cached_property
    def terms(self) -> dict[str, Any]:
        """Its model as metadata of a job."""
        model = model_of(self.envelope, self.payload)
        return {
            "linear": [model.get_linear(i) for i in range(model.num_variables)],
            "quadratic": [[i, j, value] for (i, j), value in model.quadratic.items()],
            "offset": float(model.offset),
        }


def folded(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """A submission that holds each program once."""
    programs: dict[str, int] = {}
    folded = [
        job
        | {
            "circuits": [
                circuit | {"program": programs.setdefault(circuit["program"], len(programs))}
                for circuit in job["circuits"]
            ]
        }
        for job in jobs
    ]
    return {"programs": list(programs), "jobs": folded}


@lru_cache(maxsize=64)
def fitted(structure: Structure, compilation: Compilation, calibration: str) -> tuple[Prepared, str, str]:
    """The circuit fitted to the device of this calibration document, its program and the calibration's id: once for
    all its jobs."""
    from resources.circuits.device import prepare

    circuit = prepare(structure, compilation, device_of(calibration))
    return circuit, as_qpy(circuit.circuit), json.loads(calibration)["calibration_id"]


@lru_cache(maxsize=64)
def worst(variables: int, depth: int, compilation: Compilation, device: str, calibration: str | None) -> Prepared:
    """The complete graph's circuit, fitted to the device of this calibration document or, without one, as it came."""
    from resources.circuits.device import prepare

    backend = emulated_backend(device, 0) if calibration is None else device_of(calibration)
    return prepare(Structure.complete(variables, depth), compilation, backend)


@lru_cache(maxsize=8)
def device_of(calibration: str) -> BackendV2:
    """The device of this calibration document, for the compiler."""
    return backend_of(json.loads(calibration))
