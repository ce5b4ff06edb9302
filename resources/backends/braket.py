"""Amazon Braket's simulators in this process: the noise-free one and the emulator of a trapped-ion device.

Here: QAOA circuits in Braket's own gates, the plan of a job that any Braket device shares, ``braket-local``
(``simulator``) and ``braket-emulator`` (``emulator``). Both take the hardware's path: angles from the local tuning, one
circuit; or all circuits of a program. The simulator computes the exact distribution of read-outs and the shots are
drawn from it with the job's seed, because the SDK's own draw cannot be seeded. Not here: devices of the cloud
(``braket_aws``), the circuits of programs (``braket_programs``).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from resources.backends.base import Capabilities, Estimate, LocalBackend, installed
from resources.backends.braket_programs import (
    Sweep,
    estimated,
    inputs_of,
    pauli_circuit,
    plan_program,
    two_qubit_gates,
)
from resources.backends.device_time import on_device
from resources.backends.measuring import sampled
from resources.backends.program_trip import answer_program
from resources.backends.trip import answer
from resources.circuits.device import estimate_on, tune
from resources.circuits.ising import Ising, Structure
from resources.circuits.pauli import PauliStructure
from resources.circuits.templates import Shape
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, JobEnvelope, JobResult
from resources.payloads import Payload, model_of, reading_of

if TYPE_CHECKING:
    from braket.circuits import Circuit

PACKAGES = ("amazon-braket-sdk", "amazon-braket-default-simulator")


@lru_cache(maxsize=32)
def qaoa_circuit(structure: Structure) -> Circuit:
    """QAOA in H, Rz, ZZ and Rx with the free angles ``a0``, ``a1`` … in the order of ``Structure.parameters``; variable
    i on qubit i, nothing measured."""
    from braket.circuits import Circuit, FreeParameter

    circuit, angles = Circuit(), (FreeParameter(f"a{k}") for k in range(structure.parameters))
    circuit.h(range(structure.variables))
    for _ in range(structure.depth):
        for i in structure.fields:
            circuit.rz(i, next(angles))
        for i, j in structure.edges:
            circuit.zz(i, j, next(angles))
        circuit.rx(range(structure.variables), next(angles))
    return circuit


def circuit_of(structure: Shape) -> Circuit:
    """The circuit of any structure, with free angles ``a0``, ``a1`` …, nothing measured."""
    return pauli_circuit(structure) if isinstance(structure, PauliStructure) else qaoa_circuit(structure)


def fidelity(structure: Shape, one_qubit: float, two_qubit: float, readout: float) -> float:
    """Product of these fidelities over the circuit's gates and read-outs."""
    gates = [len(gate.target) for gate in circuit_of(structure).instructions]
    return float(one_qubit ** gates.count(1) * two_qubit ** gates.count(2) * readout**structure.variables)


def missing_sdk(name: str) -> str | None:
    """One sentence when the SDK is not installed."""
    if installed("braket.circuits"):
        return None
    return f"backend {name} needs amazon-braket-sdk: install hybrid-assets[braket]"


@dataclass(frozen=True)
class IonTrap:
    """Fidelities of a small trapped-ion device: round numbers of the order that vendors publish, not a calibration of
    any one device. Every pair is coupled, ZZ is native, so nothing is routed."""

    qubits: int = 10
    one_qubit: float = 0.9998
    two_qubit: float = 0.995
    readout: float = 0.996


ION_TRAP = IonTrap()


@dataclass(frozen=True)
class Plan:
    """A job before it is sent.

    Attributes:
        structure: of its circuit.
        angles: row of ``Ising.angles``, shape ``(parameters,)``.
        record: what ``trip.answer`` needs, JSON-able.
    """

    structure: Structure
    angles: np.ndarray
    record: dict[str, Any]

    @property
    def inputs(self) -> dict[str, float]:
        """The angles by the names that they have in ``qaoa_circuit``."""
        return inputs_of(self.angles)


def plan(envelope: JobEnvelope, payload: Payload) -> Plan:
    """Choose the angles here and build the circuit; Braket's service compiles for the device by itself, so depth and
    gates are those of the circuit as sent.

    Raises:
        BackendError: class ``circuit``, when the payload is not what the envelope says.
    """
    payload = model_of(envelope, payload)
    algorithm, started = envelope.algorithm, time.perf_counter()
    ising = Ising.from_bqm(payload)
    structure = ising.structure(algorithm.depth)
    circuit = qaoa_circuit(structure)
    built = time.perf_counter()
    chosen = tune(payload, ising, algorithm, built + envelope.timeout.execution)
    vectors = payload.to_numpy_vectors(variable_order=range(ising.variables))
    pairs = two_qubit_gates(circuit)
    record = {
        "envelope_digest": envelope.digest,
        "trained": algorithm.name == "qaoa-trained",
        "payload": {
            "linear": vectors.linear_biases.tolist(),
            "quadratic": [list(term) for term in zip(*(part.tolist() for part in vectors.quadratic), strict=True)],
            "offset": float(vectors.offset),
        },
        "confusion": None,
        "symmetry": None,
        "compile_seconds": built - started,
        "tune_seconds": time.perf_counter() - built,
        "result": {
            "width": ising.variables,
            "depth": circuit.depth,
            "two_qubit_gates": pairs,
            "logical_depth": circuit.depth,
            "logical_two_qubit_gates": pairs,
            "tuning_shots": chosen.shots,
            "circuits": chosen.circuits + 1,
            "parameters": chosen.record,
        },
    }
    return Plan(structure, ising.angles(chosen.gammas[None], chosen.betas[None])[0], record)


@dataclass(frozen=True)
class Program:
    """An OpenQASM 3 program with free angles that ends in exact probabilities, and the simulator that takes it."""

    source: str
    simulator: str
    qubits: int

    def sample(self, inputs: dict[str, float], shots: int, seed: int) -> np.ndarray:
        """Bits, int8, shape ``(shots, qubits)``, variable 0 first; the same seed gives the same bits."""
        from braket.devices import LocalSimulator
        from braket.ir.openqasm import Program as OpenQasm

        device = LocalSimulator(self.simulator)
        exact = device.run(OpenQasm(source=self.source, inputs=inputs), shots=0).result().values[0]
        exact = np.clip(exact, 0.0, None)
        states = np.random.default_rng([seed, 1]).choice(len(exact), size=shots, p=exact / exact.sum())
        # the first qubit is the most significant bit
        return ((states[:, None] >> np.arange(self.qubits)[::-1]) & 1).astype(np.int8)


def openqasm(circuit: Circuit) -> str:
    """OpenQASM 3 source; a circuit without result types measures every qubit."""
    from braket.circuits.serialization import IRType

    source: str = circuit.to_ir(ir_type=IRType.OPENQASM).source
    return source


@lru_cache(maxsize=32)
def _ideal(structure: Shape) -> Program:
    return Program(openqasm(circuit_of(structure).copy().probability()), "braket_sv", structure.variables)


@lru_cache(maxsize=32)
def _noisy(structure: Shape) -> Program:
    """With what the SDK's emulator puts in: depolarizing after every gate, flips before the read-out."""
    from braket.circuits import Circuit

    verbatim = Circuit().add_verbatim_box(circuit_of(structure)).measure(range(structure.variables))
    left_out = ("StartVerbatimBox", "EndVerbatimBox", "Measure")
    noisy = _emulator(ION_TRAP).transform(verbatim)
    kept = Circuit([step for step in noisy.instructions if step.operator.name not in left_out])
    return Program(openqasm(kept.probability()), "braket_dm", structure.variables)


@lru_cache(maxsize=2)
def _emulator(device: IonTrap) -> Any:
    from braket.device_schema.result_type import ResultType
    from braket.device_schema.standardized_gate_model_qpu_device_properties_v1 import (
        OneQubitProperties,
        TwoQubitProperties,
    )
    from braket.emulation.device_emulator_properties import DeviceEmulatorProperties
    from braket.emulation.local_emulator import LocalEmulator

    def told(kind: str, value: float) -> dict[str, Any]:
        return {"fidelityType": {"name": kind}, "fidelity": value}

    # the schema wants coherence times; the SDK's noise model does not use them
    seconds = {"value": 1.0, "unit": "s"}
    single = [told("RANDOMIZED_BENCHMARKING", device.one_qubit), told("READOUT", device.readout)]
    one = OneQubitProperties.parse_obj({"T1": seconds, "T2": seconds, "oneQubitFidelity": single})
    pair = told("RANDOMIZED_BENCHMARKING", device.two_qubit) | {"direction": None, "gateName": "zz"}
    two = TwoQubitProperties.parse_obj({"twoQubitGateFidelity": [pair]})
    return LocalEmulator.from_device_properties(
        DeviceEmulatorProperties(
            qubitCount=device.qubits,
            nativeGateSet=["h", "rx", "rz", "zz"],
            connectivityGraph={},
            oneQubitProperties={str(i): one for i in range(device.qubits)},
            twoQubitProperties={f"{i}-{j}": two for j in range(device.qubits) for i in range(j)},
            supportedResultTypes=[ResultType(name="Probability", observables=None, minShots=0, maxShots=10**6)],
        )
    )


@dataclass
class _Simulated(LocalBackend):
    """What both simulators share.

    Attributes:
        max_qubits: largest payload accepted.
    """

    max_qubits: int
    evidence: ClassVar[EvidenceClass]
    #: Measured seconds of a circuit: a constant, per gate (interpreted one by one), per gate and amplitude.
    seconds_model: ClassVar[tuple[float, float, float]]
    #: Amplitudes are ``base`` to the power of the qubits.
    base: ClassVar[float]

    @abstractmethod
    def program(self, structure: Shape) -> Program:
        """The circuit of this structure, from a cache."""

    def capabilities(self) -> Capabilities:
        """All jobs."""
        return Capabilities(self.evidence, self.max_qubits, (*QAOA, PAULI), KINDS, tier=str(self.evidence.value))

    def version(self) -> str:
        """Version of the SDK."""
        return version(PACKAGES[0])

    def available(self) -> str | None:
        """Names the extra when it is not installed."""
        return missing_sdk(self.name)

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Worst case: a complete graph with all fields, one circuit; or all of a program. Every pair is coupled."""
        n, depth, circuits = envelope.payload_variables, envelope.algorithm.depth, 1
        if envelope.kind == "sample":
            full = estimate_on("full", n, depth)
            gates = n + depth * (2 * n + n * (n - 1) // 2)
        else:
            full, circuits = estimated("full", envelope), envelope.program.circuits
            # each layer of a rotation turns several qubits
            gates = n * full.logical_depth
        constant, per_gate, per_amplitude = self.seconds_model
        expected = Estimate(
            queue_seconds=0.0,
            execution_seconds=circuits * constant + circuits * gates * (per_gate + per_amplitude * self.base**n),
            cost=0.0,
            two_qubit_gates=full.two_qubit_gates,
            depth=full.depth,
            logical_two_qubit_gates=full.logical_two_qubit_gates,
            logical_depth=full.logical_depth,
        )
        return on_device(expected, circuits * envelope.algorithm.shots)

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Choose the angles, run one circuit; or all circuits of a program.

        Raises:
            BackendError: class ``circuit``, when the payload is not what the envelope says.
            TimedOut: a program's circuits take longer than the execution budget.
        """
        if envelope.kind != "sample":
            return self._run_program(envelope, payload)
        planned = plan(envelope, payload)
        program = self.program(planned.structure)
        started = time.perf_counter()
        bits = program.sample(planned.inputs, envelope.algorithm.shots, envelope.algorithm.seed)
        return answer(
            planned.record,
            bits,
            backend=self.name,
            version=self.version(),
            sdk_versions={package: version(package) for package in PACKAGES},
            evidence=self.evidence,
            execute_seconds=time.perf_counter() - started,
        )

    def _run_program(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        reading, record = plan_program(envelope, payload)
        depth, gates = (record["result"][what] for what in ("depth", "two_qubit_gates"))
        sweeps = [Sweep(self.program(one.structure), depth, gates) for one in reading.measurements]
        started = time.perf_counter()
        bits = sampled(reading, sweeps, envelope.algorithm, started + envelope.timeout.execution)
        return answer_program(
            record,
            [one for part in bits for one in part],
            backend=self.name,
            version=self.version(),
            sdk_versions={package: version(package) for package in PACKAGES},
            evidence=self.evidence,
            execute_seconds=time.perf_counter() - started,
        )


@dataclass
class BraketLocal(_Simulated):
    """Noise-free statevector simulation; the same seed gives the same samples."""

    name = "braket-local"
    modules = ("braket.circuits", "braket.devices")
    evidence: ClassVar[EvidenceClass] = EvidenceClass.SIMULATOR
    seconds_model: ClassVar[tuple[float, float, float]] = (1e-2, 1e-3, 1e-7)
    base: ClassVar[float] = 2.0
    max_qubits: int = 16

    def program(self, structure: Shape) -> Program:
        """The circuit as it is."""
        return _ideal(structure)


@dataclass
class BraketEmulator(_Simulated):
    """The SDK's local emulator of ``ION_TRAP``, a density matrix; the same seed gives the same samples."""

    name = "braket-emulator"
    modules = ("braket.circuits", "braket.devices", "braket.emulation.local_emulator")
    evidence: ClassVar[EvidenceClass] = EvidenceClass.EMULATOR
    seconds_model: ClassVar[tuple[float, float, float]] = (2e-2, 2e-3, 1e-7)
    base: ClassVar[float] = 4.0
    max_qubits: int = 8

    def program(self, structure: Shape) -> Program:
        """The circuit with the device's noise."""
        return _noisy(structure)

    def calibration(self) -> dict[str, Any]:
        """The fidelities of the model; they never change."""
        return {"device": "trapped-ion model, all pairs coupled, ZZ native", **asdict(ION_TRAP)}

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """As the simulator, with calibration, layout and the product of all fidelities; nothing idles long enough to
        count on ions, whose coherence lasts for seconds."""
        result = super().run(envelope, payload)
        structures: list[Shape]
        if envelope.kind == "sample":
            structures = [Ising.from_bqm(model_of(envelope, payload)).structure(envelope.algorithm.depth)]
        else:
            structures = [one.structure for one in reading_of(envelope, payload).measurements]
        product = min(
            fidelity(structure, ION_TRAP.one_qubit, ION_TRAP.two_qubit, ION_TRAP.readout) for structure in structures
        )
        return result.model_copy(
            update={
                "calibration": self.calibration(),
                "layout": tuple(range(result.width)),
                "success_probability": product,
            }
        )
