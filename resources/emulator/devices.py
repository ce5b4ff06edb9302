"""The emulated devices: who they are, how well they are calibrated, and what a circuit does on them.

Here: the table of devices, their seeded and drifting calibration, compilation and noisy execution. Not here: jobs,
queues and money spent (``store``, ``engine``), or HTTP (``service``).

A device is known by its calibration document, which is all that the client gets too: gate and read-out errors,
durations, T1 and T2. The values come from Qiskit's ``GenericBackendV2``, whose ranges are those of superconducting
devices; drift multiplies errors and divides coherence times by log-normal factors.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.policy import Price

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2

#: Native gates, and the gate of Qiskit's generic device whose errors and durations each takes.
SUPERCONDUCTING = {"id": "id", "rz": "rz", "sx": "sx", "x": "x", "cx": "cx"}
QAOA_NATIVE = {"rz": "rz", "h": "sx", "rx": "sx", "rzz": "cx"}
#: Two-qubit gates take this share of the generic device's time: some 70 ns, as with tunable couplers.
COUPLER = 0.15
#: Log-normal spread of one drift of the calibration.
DRIFT = 0.2


class CircuitError(ValueError):
    """A circuit that cannot be read or does not run on the device; the message says why."""


@dataclass(frozen=True)
class DeviceModel:
    """One emulated device.

    Attributes:
        name, qubits, seed: the seed decides the first calibration.
        edges: coupled pairs, one direction each; ``None``: every pair.
        price: what a job costs, in the currency of the account.
        gates: native gates, with their model.
        per_gate_qubits: circuits on at most so many qubits get the error of every gate, its decay and every
            read-out's error (Aer, density matrix). Larger ones get global depolarizing noise: the exact distribution
            mixed with the uniform one by the product of the gate fidelities, then read-out errors. That is crude and
            takes milliseconds where trajectories take minutes.
    """

    name: str
    qubits: int
    seed: int
    edges: tuple[tuple[int, int], ...] | None
    price: Price
    gates: Mapping[str, str] = field(default_factory=lambda: SUPERCONDUCTING)
    per_gate_qubits: int = 8

    @property
    def couplings(self) -> tuple[tuple[int, int], ...]:
        """Coupled pairs, one direction each."""
        if self.edges is not None:
            return self.edges
        return tuple((i, j) for i in range(self.qubits) for j in range(i + 1, self.qubits))


_PRICE = Price(per_job=0.10, per_shot=0.0001)
_QUICK = Price(per_job=0.01, per_shot=0.00001)
#: The heavy-hexagon map of IBM's 16-qubit Falcon devices.
_FALCON_16 = (
    *((0, 1), (1, 2), (1, 4), (2, 3), (3, 5), (4, 7), (5, 8), (6, 7), (7, 10), (8, 9), (8, 11), (10, 12)),
    *((11, 14), (12, 13), (12, 15), (13, 14)),
)
DEVICES: dict[str, DeviceModel] = {
    device.name: device
    for device in (
        DeviceModel("line-8", 8, 8, tuple((i, i + 1) for i in range(7)), _PRICE),
        DeviceModel("heavy-hex-16", 16, 16, _FALCON_16, Price(per_job=0.25, per_shot=0.0002)),
        DeviceModel("quick-4", 4, 4, None, _QUICK, QAOA_NATIVE, per_gate_qubits=0),
        DeviceModel("quick-8", 8, 80, None, _QUICK, QAOA_NATIVE, per_gate_qubits=0),
    )
}


@lru_cache(maxsize=64)
def calibration_of(name: str, number: int) -> dict[str, Any]:
    """The device's calibration document number ``number`` (0 is the first); the same number is the same document.

    Returns:
        ``calibration_id``, ``basis_gates``, ``coupling_map``, ``dt`` (s), ``qubits`` (T1, T2 in s, frequency in Hz,
        read-out error and duration in s) and ``gates`` (gate, qubits, error, duration in s). Without a time: when it
        was measured is the service's to say.
    """
    from qiskit.providers.fake_provider import GenericBackendV2

    model = DEVICES[name]
    both_ways = [pair for i, j in model.couplings for pair in ((i, j), (j, i))]
    target = GenericBackendV2(
        model.qubits, basis_gates=list(SUPERCONDUCTING), coupling_map=both_ways, noise_info=True, seed=model.seed
    ).target
    rng = np.random.default_rng((model.seed, number))

    def drifted(value: float | None) -> float:
        return float(value or 0.0) * (float(rng.lognormal(0.0, DRIFT)) if number else 1.0)

    qubits = [
        {
            "T1": drifted(target.qubit_properties[q].t1),
            "T2": drifted(target.qubit_properties[q].t2),
            "frequency": target.qubit_properties[q].frequency,
            "readout_error": min(0.5, drifted(target["measure"][(q,)].error)),
            "readout_duration": target["measure"][(q,)].duration,
        }
        for q in range(model.qubits)
    ]
    gates = [
        {
            "gate": gate,
            "qubits": list(places),
            "error": min(1.0, drifted(target[like][places].error)),
            "duration": target[like][places].duration * (COUPLER if len(places) == 2 else 1.0),
        }
        for gate, like in model.gates.items()
        for places in sorted(target[like])
    ]
    return {
        "device": name,
        "calibration_id": f"{name}-{number}",
        "basis_gates": list(model.gates),
        "coupling_map": [list(pair) for pair in sorted(both_ways)],
        "dt": target.dt,
        "qubits": qubits,
        "gates": gates,
    }


def backend_of(calibration: dict[str, Any]) -> BackendV2:
    """A Qiskit ``BackendV2`` with the target that a calibration document describes; it compiles and does not run."""
    from qiskit.circuit import Delay, Measure, Parameter, Reset
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit.providers import BackendV2, Options, QubitProperties
    from qiskit.transpiler import InstructionProperties, Target

    qubits, standard = calibration["qubits"], get_standard_gate_name_mapping()
    target = Target(
        num_qubits=len(qubits),
        dt=calibration["dt"],
        qubit_properties=[QubitProperties(t1=q["T1"], t2=q["T2"], frequency=q["frequency"]) for q in qubits],
    )
    for gate in calibration["basis_gates"]:
        properties = {
            tuple(entry["qubits"]): InstructionProperties(duration=entry["duration"], error=entry["error"])
            for entry in calibration["gates"]
            if entry["gate"] == gate
        }
        target.add_instruction(standard[gate], properties)
    target.add_instruction(
        Measure(),
        {
            (i,): InstructionProperties(duration=q["readout_duration"], error=q["readout_error"])
            for i, q in enumerate(qubits)
        },
    )
    target.add_instruction(Delay(Parameter("t")), {(i,): None for i in range(len(qubits))})
    target.add_instruction(Reset(), {(i,): None for i in range(len(qubits))})

    class Calibrated(BackendV2):
        """Only a target."""

        @property
        def target(self) -> Target:
            return target

        @property
        def max_circuits(self) -> None:
            return None

        @classmethod
        def _default_options(cls) -> Options:
            return Options()

        def run(self, run_input: Any, **options: Any) -> Any:
            raise NotImplementedError("circuits are sent to the service")

    return Calibrated(name=calibration["device"], backend_version=calibration["calibration_id"])


@lru_cache(maxsize=16)
def emulated_backend(name: str, number: int) -> BackendV2:
    """``backend_of`` the device's calibration ``number``; compilations are cached by this object."""
    return backend_of(calibration_of(name, number))


# --- circuits -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def read_circuit(kind: str, program: str) -> QuantumCircuit:
    """A circuit from what a client sent.

    Args:
        kind: ``qasm2`` or ``qasm3`` (text; inputs of OpenQASM 3 are free parameters), or ``qpy`` (base64; needs no
            further package and keeps parameters free).
        program: the text.

    Raises:
        CircuitError: it cannot be read, or measures nothing.
    """
    try:
        if kind == "qpy":
            from qiskit import qpy

            (circuit,) = qpy.load(io.BytesIO(base64.b64decode(program, validate=True)))
        elif kind == "qasm3":
            from qiskit import qasm3

            circuit = qasm3.loads(program)
        else:
            from qiskit import qasm2

            circuit = qasm2.loads(program)
    except ImportError as error:
        raise CircuitError(f"{kind} needs a package that is not installed on the service; send qpy or qasm2") from error
    except Exception as error:
        raise CircuitError(f"the {kind} program cannot be read ({type(error).__name__})") from error
    if not circuit.num_clbits or "measure" not in circuit.count_ops():
        raise CircuitError("the circuit measures nothing")
    return circuit


def as_qpy(circuit: QuantumCircuit) -> str:
    """The circuit as base64 QPY, parameters free."""
    from qiskit import qpy

    file = io.BytesIO()
    qpy.dump(circuit, file)
    return base64.b64encode(file.getvalue()).decode()


def check_circuit(name: str, kind: str, program: str, bindings: Sequence[Sequence[float]]) -> None:
    """Refuse a circuit that can never run on the device.

    Raises:
        CircuitError: unreadable, too wide, or a row of ``bindings`` that does not fit its free parameters.
    """
    circuit = read_circuit(kind, program)
    if circuit.num_qubits > DEVICES[name].qubits:
        raise CircuitError(f"the circuit has {circuit.num_qubits} qubits, {name} has {DEVICES[name].qubits}")
    for row in bindings:
        if len(row) != circuit.num_parameters:
            raise CircuitError(f"{len(row)} values are given for {circuit.num_parameters} free parameters")


@lru_cache(maxsize=256)
def compiled(name: str, kind: str, program: str) -> QuantumCircuit:
    """The circuit in the device's gates on its couplings: as sent if it already is, else transpiled; once per circuit
    and device."""
    from qiskit import transpile

    circuit, target = read_circuit(kind, program), emulated_backend(name, 0).target
    places = {bit: index for index, bit in enumerate(circuit.qubits)}
    native = all(
        instruction.operation.name == "barrier"
        or target.instruction_supported(instruction.operation.name, tuple(places[bit] for bit in instruction.qubits))
        for instruction in circuit.data
    )
    if native:
        return circuit
    return transpile(circuit, target=target, optimization_level=1, seed_transpiler=0)


@dataclass(frozen=True)
class Outcome:
    """What a circuit gave.

    Attributes:
        counts: per row of bindings; bit strings are Qiskit's, clbit 0 comes last.
        noise: ``per gate`` or ``global`` (see ``DeviceModel``).
    """

    counts: list[dict[str, int]]
    noise: str


def execute(
    name: str, number: int, kind: str, program: str, bindings: Sequence[Sequence[float]], shots: int, seed: int
) -> Outcome:
    """Run a circuit on calibration ``number``, once per row of ``bindings``; the same seed gives the same counts."""
    circuit = compiled(name, kind, program)
    circuits = [circuit.assign_parameters(row) if len(row) else circuit for row in bindings]
    used = {
        bit for instruction in circuit.data for bit in instruction.qubits if instruction.operation.name != "barrier"
    }
    if len(used) > DEVICES[name].per_gate_qubits:
        counts = [
            _sampled(name, number, bound, shots, np.random.default_rng((seed, index)))
            for index, bound in enumerate(circuits)
        ]
        return Outcome(counts, "global")
    result = _simulator(name, number).run(circuits, shots=shots, seed_simulator=seed % (2**31)).result()
    # by position: rows of a circuit without free angles share its name
    each = [result.get_counts(position) for position in range(len(circuits))]
    counts = [{bits.replace(" ", ""): count for bits, count in found.items()} for found in each]
    return Outcome(counts, "per gate")


@lru_cache(maxsize=8)
def _simulator(name: str, number: int) -> Any:
    from qiskit_aer import AerSimulator

    return AerSimulator.from_backend(emulated_backend(name, number), method="density_matrix", max_parallel_threads=1)


@lru_cache(maxsize=1)
def _exact() -> Any:
    from qiskit_aer import AerSimulator

    return AerSimulator(method="statevector", max_parallel_threads=1)


def _sampled(name: str, number: int, circuit: QuantumCircuit, shots: int, rng: np.random.Generator) -> dict[str, int]:
    """Global depolarizing noise on the exact distribution, then independent read-out errors."""
    from qiskit import QuantumCircuit

    # importing Aer also teaches circuits to save probabilities
    simulator, calibration = _exact(), calibration_of(name, number)
    error_of = {(entry["gate"], tuple(entry["qubits"])): entry["error"] for entry in calibration["gates"]}
    places = {bit: index for index, bit in enumerate(circuit.qubits)}
    clbits = {bit: index for index, bit in enumerate(circuit.clbits)}
    work = [instruction for instruction in circuit.data if instruction.operation.name != "barrier"]
    # the others stay in their ground state
    small = {q: i for i, q in enumerate(sorted({places[bit] for instruction in work for bit in instruction.qubits}))}
    gates, read, fidelity = QuantumCircuit(len(small)), {}, 1.0
    for instruction in work:
        qubits = tuple(places[bit] for bit in instruction.qubits)
        if instruction.operation.name == "measure":
            read[clbits[instruction.clbits[0]]] = qubits[0]
        else:
            gates.append(instruction.operation, [small[q] for q in qubits])
            fidelity *= 1.0 - error_of.get((instruction.operation.name, qubits), 0.0)
    gates.save_probabilities([small[read[c]] for c in sorted(read)])
    exact = simulator.run(gates).result().data()["probabilities"]
    mixed = fidelity * exact + (1.0 - fidelity) / len(exact)
    states = rng.choice(len(mixed), size=shots, p=mixed / mixed.sum())
    bits = (states[:, None] >> np.arange(len(read))) & 1
    wrong = np.array([calibration["qubits"][read[c]]["readout_error"] for c in sorted(read)])
    bits ^= rng.random(bits.shape) < wrong
    texts = np.zeros((shots, circuit.num_clbits), dtype=np.int64)
    texts[:, sorted(read)] = bits
    distinct, counts = np.unique(texts[:, ::-1], axis=0, return_counts=True)
    return {"".join(map(str, row)): int(count) for row, count in zip(distinct.tolist(), counts, strict=True)}


@lru_cache(maxsize=64)
def digest_of_program(kind: str, program: str) -> str:
    """SHA-256 (hex) by which a circuit is kept once."""
    return hashlib.sha256(f"{kind}:{program}".encode()).hexdigest()
