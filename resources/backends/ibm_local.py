"""IBM's primitives in their local mode: a fake device with a real one's frozen calibration, in this process.

Here: the backend and how fake devices are found. Not here: the code path it shares with hardware (``ibm_programs``,
``ibm_sampler``).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from resources.backends.base import Capabilities, Estimate, LocalBackend
from resources.backends.ibm_client import speaking
from resources.backends.ibm_programs import answered, estimated, finished, planned, randomized, sent
from resources.backends.ibm_sampler import MITIGATION, check_decoupling, missing_package
from resources.circuits import device as on_device
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, JobEnvelope, JobResult, Timings
from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    from qiskit.providers import BackendV2

    from resources.payloads import Payload


#: Measured on one core: a job, and a two-qubit gate with its share of the other gates, per amplitude.
_SECONDS, _SECONDS_PER_AMPLITUDE = 0.5, 3e-8
#: A circuit of a program, or a randomization of it.
_SECONDS_PER_CIRCUIT = 0.04
#: The Estimator reads out, and Aer keeps, all qubits of a device; above this many the Sampler takes its jobs.
_ESTIMATOR_QUBITS = 12


@dataclass
class IbmLocal(LocalBackend):
    """The primitives' local mode on a fake device with a real one's frozen calibration, named by ``HYBRID_IBM_FAKE``.

    Local mode has no job ids, no queue, no tags and no lookup: jobs are this process's. Gates and read-out are noisy;
    waiting qubits are not, so that dynamical decoupling costs its gates here and gains nothing.
    """

    device_name: str = field(default_factory=lambda: os.environ.get("HYBRID_IBM_FAKE") or "fake_oslo")
    #: largest payload: 12 variables take a quarter of a minute at depth 1, each further one twice as long
    max_qubits: int = 12
    name = "ibm-local"
    modules: ClassVar[tuple[str, ...]] = (
        "qiskit_ibm_runtime.executor_sampler",
        "qiskit_ibm_runtime.executor_estimator",
        "qiskit_aer.primitives",
        "samplomatic",
    )

    def capabilities(self) -> Capabilities:
        """All jobs on the fake device's qubits."""
        size = fake_size(self.device_name) or 0
        return Capabilities(
            EvidenceClass.EMULATOR,
            min(size, self.max_qubits),
            (*QAOA, PAULI),
            KINDS,
            tier="emulator",
            mitigation=MITIGATION,
            device=self.device_name,
        )

    def version(self) -> str:
        """Version of the client library."""
        return version("qiskit-ibm-runtime")

    def available(self) -> str | None:
        """Names the missing extra or the unknown fake device."""
        if missing := missing_package(self.name):
            return missing
        if fake_size(self.device_name) is None:
            return (
                f"backend {self.name} knows no fake device {self.device_name!r}: HYBRID_IBM_FAKE names one, fake_oslo"
            )
        return None

    def device(self) -> BackendV2:
        """The fake device."""
        return _fake(self.device_name)

    def check(self, envelope: JobEnvelope) -> None:
        """Also refuses unknown pulse sequences."""
        super().check(envelope)
        check_decoupling(self.name, envelope)

    def calibration(self) -> dict[str, Any]:
        """The frozen calibration of the fake device."""
        return on_device.calibration_of(self.device())

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Worst case on the fake device; the seconds are this machine's."""
        worst = estimated(envelope, self.device(), 0.0)
        circuits, shots = 1, envelope.algorithm.shots
        n = self.device().num_qubits if self._estimates(envelope) else envelope.payload_variables
        if envelope.kind != "sample":
            randomizations, shots = randomized(envelope)
            circuits = envelope.program.circuits * randomizations
        # Aer takes the density matrix or one trajectory a shot, whichever is smaller
        amplitudes = min(4.0**n, shots * 2.0**n)
        each = _SECONDS_PER_AMPLITUDE * worst.two_qubit_gates * amplitudes
        seconds = _SECONDS + circuits * each + (0.0 if envelope.kind == "sample" else circuits * _SECONDS_PER_CIRCUIT)
        return replace(worst, execution_seconds=seconds, device_seconds=worst.execution_seconds)

    def _estimates(self, envelope: JobEnvelope) -> bool:
        return envelope.kind == "estimate" and self.device().num_qubits <= _ESTIMATOR_QUBITS

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Tune, compile, sample or estimate; the same seed gives the same answer."""
        estimator = self._estimates(envelope)
        pubs, note = planned(envelope, payload, self.device(), EvidenceClass.EMULATOR, estimator=estimator)
        started, simulator = time.perf_counter(), _simulator(self.device_name)
        with speaking("running in local mode"):
            answer = answered(sent(simulator, envelope, pubs, note, seed=envelope.algorithm.seed), note)
        return finished(self.name, note, answer, Timings(execute=time.perf_counter() - started))


def _fake_folder(name: str) -> Path | None:
    package = find_spec("qiskit_ibm_runtime")
    if package is None or not package.submodule_search_locations or not name.removeprefix("fake_").isidentifier():
        return None
    folder = Path(package.submodule_search_locations[0]) / "fake_provider" / "backends" / name.removeprefix("fake_")
    return folder if folder.is_dir() else None


@lru_cache(maxsize=8)
def fake_size(name: str) -> int | None:
    """Qubits of a fake device, read from its file: asking for it must not import the SDK."""
    folder = _fake_folder(name)
    found = next(folder.glob("conf_*.json"), None) if folder else None
    return int(json.loads(found.read_text(encoding="utf-8"))["n_qubits"]) if found else None


@lru_cache(maxsize=2)
def _simulator(name: str) -> BackendV2:
    """The fake device as a simulator with its noise, which takes longer to make than most jobs."""
    from qiskit_aer import AerSimulator

    return AerSimulator.from_backend(_fake(name), max_parallel_threads=1)


@lru_cache(maxsize=8)
def _fake(name: str) -> BackendV2:
    folder = _fake_folder(name)
    if folder is None:
        raise BackendError(f"there is no fake device {name!r}", FailureClass.CAPABILITY)
    module = import_module(f"qiskit_ibm_runtime.fake_provider.backends.{folder.name}")
    kinds = [kind for kind in vars(module).values() if getattr(kind, "backend_name", None) == name]
    if not kinds:
        raise BackendError(f"there is no fake device {name!r}", FailureClass.CAPABILITY)
    return kinds[0]()
