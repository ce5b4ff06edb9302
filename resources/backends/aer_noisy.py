"""Qiskit Aer as an emulator of a real device: the noise of its calibration, on its coupling map.

Here: the devices and their noise models. Not here: compiling for a device (``resources.circuits.device``) or the job
document (``trip``).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends.aer import load_transpiler
from resources.backends.base import Capabilities, Estimate, LocalBackend, package_version
from resources.backends.device_time import on_device
from resources.backends.gate_simulator import circuits_of
from resources.backends.ibm_local import fake_size
from resources.backends.measuring import sampled
from resources.backends.program_trip import ProgramPlan, answer_program, plan_program
from resources.backends.trip import answer, plan
from resources.circuits.device import Prepared, calibration_of, estimate_on, estimate_program
from resources.circuits.templates import QiskitTemplate
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass, InputError

if TYPE_CHECKING:
    from qiskit.providers import BackendV2

    from resources.payloads import Payload

#: IBM's 133-qubit processor as it was calibrated on a day of 2024; needs the extra ``ibm``.
FAKE_DEVICE = "fake_torino"
#: 19 qubits on a heavy-hex lattice with Qiskit's generic error rates, drawn once; needs no extra.
GENERIC_DEVICE = "generic_heavy_hex_19"
#: A density matrix of more qubits takes longer than one trajectory a shot.
DENSITY_MATRIX_QUBITS = 10
MOST_QUBITS = 14
PACKAGES = ("qiskit-aer", "qiskit")
#: Measured seconds per circuit: a constant, per gate as compiled, and per gate and element of the density matrix.
SECONDS_MODEL = (1e-1, 5e-5, 2e-9)


@dataclass
class AerNoisy(LocalBackend):
    """Noisy simulation on one thread; the same seed gives the same samples.

    Gate errors are depolarizing with thermal relaxation, read-out errors are the device's own; idle qubits do not
    decay here, though ``success_probability`` counts it. ``qaoa-trained`` trains on the noisy device itself.

    Attributes:
        device: name of a fake device of qiskit-ibm-runtime, or ``GENERIC_DEVICE``; by default the value of
            ``HYBRID_AER_DEVICE``, else ``FAKE_DEVICE`` where it is installed and ``GENERIC_DEVICE`` where not.
    """

    max_qubits: int = 8
    device: str = field(default_factory=lambda: os.environ.get("HYBRID_AER_DEVICE") or _default_device())
    name = "aer-noisy"
    modules = ("qiskit_aer.noise",)

    def __post_init__(self) -> None:
        if not 1 <= self.max_qubits <= MOST_QUBITS:
            problem = f"{self.max_qubits} is out of range"
            raise InputError(self.name, "max_qubits", problem, f"use 1 to {MOST_QUBITS}")

    def load(self) -> None:
        """Aer's noise, the transpiler with its plug-ins, and the device's calibration."""
        super().load()
        load_transpiler()
        device_named(self.device)

    def capabilities(self) -> Capabilities:
        """As any simulator on the device's qubits, with read-out mitigation and post-selection."""
        return Capabilities(
            EvidenceClass.EMULATOR,
            min(self.max_qubits, fake_size(self.device) or self.max_qubits),
            (*QAOA, PAULI),
            KINDS,
            tier="emulator",
            mitigation=("readout", "postselect"),
            device=self.device,
        )

    def version(self) -> str:
        """Version of qiskit-aer."""
        return package_version("qiskit-aer")

    def available(self) -> str | None:
        """Names what is not installed."""
        if self.device != GENERIC_DEVICE and find_spec("qiskit_ibm_runtime") is None:
            return (
                f"backend {self.name} needs qiskit-ibm-runtime for device {self.device}: install the extra 'ibm', or "
                f"set HYBRID_AER_DEVICE={GENERIC_DEVICE}"
            )
        if self.device != GENERIC_DEVICE and fake_size(self.device) is None:
            return (
                f"backend {self.name} knows no fake device {self.device!r}: set HYBRID_AER_DEVICE to {FAKE_DEVICE} or "
                f"{GENERIC_DEVICE}"
            )
        missing = [package for package in PACKAGES if find_spec(package.replace("-", "_")) is None]
        return f"backend {self.name} needs {', '.join(missing)}: install the package" if missing else None

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Worst case, without compiling: of a program, or over complete graphs, of which heavy-hex lattices took at
        most 6 two-qubit gates a pair and depth 24·n a layer (2 to 10 variables, optimization levels 0 to 2, three
        devices; 3 and 12 at level 2)."""
        n, depth = envelope.payload_variables, envelope.algorithm.depth
        if envelope.kind == "sample":
            logical = estimate_on("full", n, depth)
            gates, layers = 7 * logical.two_qubit_gates, 10 + 30 * n * depth
            circuits = circuits_of(envelope.algorithm) if envelope.algorithm.name == "qaoa-trained" else 1
        else:
            logical = estimate_program("heavy-hex", n, envelope.program)
            gates, layers, circuits = logical.two_qubit_gates, logical.depth, envelope.program.circuits
        constant, per_gate, per_amplitude = SECONDS_MODEL
        seconds = constant + 4 * gates * (per_gate + per_amplitude * 4.0**n)
        expected = Estimate(
            queue_seconds=0.0,
            execution_seconds=circuits * seconds,
            cost=0.0,
            two_qubit_gates=gates,
            depth=layers,
            logical_two_qubit_gates=logical.logical_two_qubit_gates,
            logical_depth=logical.logical_depth,
            coupling_map="heavy-hex",
        )
        return on_device(expected, envelope.program.circuits * envelope.algorithm.shots)

    def calibration(self) -> dict[str, Any]:
        """The whole device's calibration; it never changes."""
        return calibration_of(device_named(self.device))

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Choose angles, compile for the device, sample its noise model once; or all circuits of a program.

        Raises:
            BackendError: as ``trip.plan`` and ``trip.answer``, ``program_trip.plan_program``.
            TimedOut: a program's circuits take longer than the execution budget.
        """
        device = device_named(self.device)
        if envelope.kind != "sample":
            return self._run_program(envelope, plan_program(envelope, payload, device), device)

        def runnable(prepared: Prepared) -> QiskitTemplate:
            return _noisy(prepared, device)

        planned = plan(envelope, payload, device, training=runnable)
        started = time.perf_counter()
        seed = int(np.random.default_rng([envelope.algorithm.seed, 1]).integers(2**31 - 1))
        bits = runnable(planned.prepared).sample(planned.angles[None], envelope.algorithm.shots, seed)[0]
        return answer(
            planned.record,
            bits,
            backend=self.name,
            version=self.version(),
            sdk_versions={package: package_version(package) for package in PACKAGES},
            evidence=EvidenceClass.EMULATOR,
            execute_seconds=time.perf_counter() - started,
        )

    def _run_program(self, envelope: JobEnvelope, planned: ProgramPlan, device: BackendV2) -> JobResult:
        started = time.perf_counter()
        templates = [_noisy(prepared, device) for prepared in planned.prepared]
        bits = sampled(planned.reading, templates, envelope.algorithm, started + envelope.timeout.execution)
        return answer_program(
            planned.record,
            [one for part in bits for one in part],
            backend=self.name,
            version=self.version(),
            sdk_versions={package: package_version(package) for package in PACKAGES},
            evidence=EvidenceClass.EMULATOR,
            execute_seconds=time.perf_counter() - started,
        )


def _default_device() -> str:
    return GENERIC_DEVICE if find_spec("qiskit_ibm_runtime") is None else FAKE_DEVICE


@lru_cache(maxsize=4)
def device_named(name: str) -> BackendV2:
    """A fake device, loaded once.

    Raises:
        BackendError: class ``capability``, when there is no such device.
    """
    if name == GENERIC_DEVICE:
        from qiskit.providers.fake_provider import GenericBackendV2
        from qiskit.transpiler import CouplingMap

        lattice = CouplingMap.from_heavy_hex(3)
        device = GenericBackendV2(lattice.size(), coupling_map=lattice, seed=19)
        device.name = name
        return device
    from qiskit_ibm_runtime import fake_provider

    for kind in vars(fake_provider).values():
        if isinstance(kind, type) and getattr(kind, "backend_name", None) == name:
            return kind()
    raise BackendError(
        f"there is no fake device {name!r}: set HYBRID_AER_DEVICE to {FAKE_DEVICE} or {GENERIC_DEVICE}",
        FailureClass.CAPABILITY,
    )


@lru_cache(maxsize=32)
def _noisy(prepared: Prepared, device: BackendV2) -> QiskitTemplate:
    """The compiled circuit with the noise of the instructions that it uses; the rest of a device only costs time."""
    from qiskit.transpiler import Target
    from qiskit_aer.noise import NoiseModel
    from qiskit_aer.noise.device.models import basic_device_gate_errors, basic_device_readout_errors

    target, circuit = device.target, prepared.circuit
    index = {qubit: position for position, qubit in enumerate(circuit.qubits)}
    used: dict[str, set[tuple[int, ...]]] = {}
    for instruction in circuit.data:
        at = tuple(index[qubit] for qubit in instruction.qubits)
        used.setdefault(instruction.operation.name, set()).add(at)
    part = Target(num_qubits=target.num_qubits, qubit_properties=target.qubit_properties)
    for name in used.keys() - {"barrier", "delay"}:
        part.add_instruction(target.operation_from_name(name), {at: target[name][at] for at in used[name]})
    noise = NoiseModel(basis_gates=sorted(used.keys() - {"barrier", "measure"}))
    for qubits, readout in basic_device_readout_errors(target=part):
        noise.add_readout_error(readout, qubits)
    for name, qubits, error in basic_device_gate_errors(target=part):
        noise.add_quantum_error(error, name, qubits)
    active = {qubit for places in used.values() for at in places for qubit in at}
    method = "density_matrix" if len(active) <= DENSITY_MATRIX_QUBITS else "statevector"
    return QiskitTemplate(circuit, {"method": method, "noise_model": noise, "max_parallel_threads": 1})
