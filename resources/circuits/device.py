"""Circuits on devices: angles found before the one trip, compilation to a device, its calibration, a fidelity proxy.

Works for any Qiskit ``BackendV2``. Here: ``tune``, ``prepare``, ``calibration_of``, ``success_probability`` and the
estimates of routed circuits. Not here: sending anything (``resources.backends``), the logical circuit
(``templates``), or read-out mitigation (``mitigation``).
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from resources.circuits.checkpoint import resumable
from resources.circuits.diagonal_template import DiagonalTemplate
from resources.circuits.ising import Ising, Structure
from resources.circuits.qaoa import Angles, choose_angles, untuned
from resources.circuits.schedules import MIXER_RAMP
from resources.circuits.templates import Shape, kept, logical_circuit, swap_network
from resources.envelope import Compilation, ProgramSize
from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    import dimod
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2
    from qiskit.transpiler import Target

    from resources.envelope import Algorithm

CouplingMapName = Literal["full", "line", "grid", "heavy-hex"]
#: Largest independent part of a problem whose angles are chosen here; a statevector above takes seconds a circuit.
TUNED_QUBITS = 20
#: Up to here a ramp grid takes a fraction of a second and runs as one call.
_BROADCAST_QUBITS = 14

#: Instructions that take no part in a fidelity: markers, and what is accounted for as idle time.
_PASSIVE = ("barrier", "delay")


def tune(payload: dimod.BinaryQuadraticModel, ising: Ising, algorithm: Algorithm, deadline: float) -> Angles:
    """Choose the angles on the local statevector kernel, so that a device is asked once.

    Above ``TUNED_QUBITS`` coupled variables nothing is tuned (``qaoa.untuned``); the record says so (``angles_from``).
    Shots are drawn and charged as a device's would be, so the choice could be made on one as well. What a choice that
    was killed has measured is not measured again (``checkpoint``).

    Args:
        payload: BINARY model over 0 … n−1; energies are its own.
        ising: its Ising form.
        algorithm: a QAOA algorithm; for a device ``qaoa-trained`` is one whole run.
        deadline: reading of ``time.perf_counter`` after which the choice ends with what it has.

    Returns:
        One γ and one β per layer; bind them with ``Prepared.bind(ising.angles(γ[None], β[None])[0])``. ``shots`` and
        ``circuits`` were spent here, not on the device.
    """
    structure = ising.structure(algorithm.depth, algorithm.groups)
    largest = max(map(len, structure.parts))
    if largest > TUNED_QUBITS:
        taken = untuned(ising, algorithm)
        record = taken.record | {
            "angles_from": f"{taken.source}: above {TUNED_QUBITS} coupled variables nothing is tuned",
            "gamma_unit": 1.0 / ising.scale,
            "mixer_ramp": MIXER_RAMP,
        }
        return Angles(taken.gammas, taken.betas, record)
    template = DiagonalTemplate(structure)
    broadcast = largest <= _BROADCAST_QUBITS and deadline - time.perf_counter() > 1.0
    with resumable("local kernel", payload, algorithm) as checkpoint:
        chosen = choose_angles(payload, ising, template, algorithm, deadline, None, checkpoint, broadcast)
    return replace(chosen, record=chosen.record | {"angles_from": "local kernel"})


@dataclass(frozen=True, eq=False)
class Prepared:
    """A circuit fitted to a device, its angles still free.

    Attributes:
        circuit: in the device's gates on its physical qubits; read-out into register ``c``, bit i is variable i.
        layout: physical qubit of each variable before the first gate.
        measured: physical qubit on which each variable is read out; routing moves variables.
        logical_depth, logical_two_qubit_gates: before fitting (one gate per coupling), read-out apart.
        depth, two_qubit_gates: after fitting, read-out apart.
        compile_seconds: spent on fitting, once.
        routing: ``transpiler`` or ``swap network``, whichever succeeds more probably.
        success_probability: see the function of that name.
        calibration: see ``calibration_of``.
    """

    circuit: QuantumCircuit
    layout: tuple[int, ...]
    measured: tuple[int, ...]
    logical_depth: int
    logical_two_qubit_gates: int
    depth: int
    two_qubit_gates: int
    compile_seconds: float
    routing: str
    success_probability: float
    calibration: dict[str, Any]

    def bind(self, angles: np.ndarray) -> QuantumCircuit:
        """The circuit with its angles (shape ``(parameters,)``, radians, in the order of the structure's)."""
        return self.circuit.assign_parameters(np.asarray(angles, dtype=float)[kept(self.circuit)].tolist())


def prepare(structure: Shape, compilation: Compilation, backend: BackendV2) -> Prepared:
    """Compile the circuit of ``structure`` for a device, once per structure, settings, device and calibration.

    Raises:
        BackendError: class ``capability``, when the device has too few qubits or the layout asked for does not fit
            it; class ``circuit``, when the transpiler fails.
    """
    device = _Device(backend.name or type(backend).__name__, calibration_id(backend.target), backend)
    size = backend.target.num_qubits or math.inf
    if structure.variables > size:
        raise BackendError(
            f"device {device.name} has {size} qubits, the circuit needs {structure.variables}",
            FailureClass.CAPABILITY,
        )
    layout = compilation.layout
    if layout is not None and (
        len(layout) != structure.variables
        or len(set(layout)) != len(layout)
        or not all(0 <= qubit < size for qubit in layout)
    ):
        raise BackendError(
            f"layout {layout} does not place {structure.variables} variables on different qubits of {device.name}",
            FailureClass.CAPABILITY,
        )
    return _prepared(structure, compilation, device)


def worst_case(variables: int, algorithm: Algorithm, backend: BackendV2) -> Prepared:
    """The complete graph with all fields on this device: what ``estimate`` can say before it knows the payload."""
    return prepare(Structure.complete(variables, algorithm.depth), algorithm.compilation, backend)


@dataclass(frozen=True)
class _Device:
    """Cache key of a device: two objects of the same name and calibration are the same device."""

    name: str
    calibration: str
    backend: BackendV2 = field(compare=False, repr=False)


@lru_cache(maxsize=32)
def _prepared(structure: Shape, compilation: Compilation, device: _Device) -> Prepared:
    from qiskit import transpile
    from qiskit.exceptions import QiskitError

    logical, target = logical_circuit(structure), device.backend.target
    started = time.perf_counter()
    candidates: list[tuple[float, int, str, QuantumCircuit]] = []
    forms = [("transpiler", logical)]
    if isinstance(structure, Structure):
        forms.append(("swap network", swap_network(structure)))
    for routing, circuit in forms:
        try:
            routed = transpile(
                circuit,
                device.backend,
                optimization_level=compilation.optimization_level,
                initial_layout=None if compilation.layout is None else list(compilation.layout),
                seed_transpiler=compilation.seed,
            )
        except QiskitError as error:
            raise BackendError(
                f"the circuit could not be compiled for {device.name}: {error}", FailureClass.CIRCUIT
            ) from error
        candidates.append((success_probability(routed, target), -routed.num_nonlocal_gates(), routing, routed))
    # dense problems gain much by the network, sparse ones and fully coupled devices lose
    chance, _, routing, routed = max(candidates, key=lambda candidate: candidate[:2])
    seconds = time.perf_counter() - started
    return Prepared(
        circuit=routed,
        layout=_layout(routed, structure.variables),
        measured=_measured_qubits(routed, structure.variables),
        logical_depth=logical.depth(_is_gate),
        logical_two_qubit_gates=logical.num_nonlocal_gates(),
        depth=routed.depth(_is_gate),
        two_qubit_gates=routed.num_nonlocal_gates(),
        compile_seconds=seconds,
        routing=routing,
        success_probability=chance,
        calibration=calibration_of(device.backend, routed),
    )


def _layout(routed: QuantumCircuit, variables: int) -> tuple[int, ...]:
    if routed.layout is None:
        return tuple(range(variables))
    return tuple(routed.layout.initial_index_layout(filter_ancillas=True))


def _measured_qubits(routed: QuantumCircuit, variables: int) -> tuple[int, ...]:
    index = {qubit: position for position, qubit in enumerate(routed.qubits)}
    bit = {clbit: position for position, clbit in enumerate(routed.clbits)}
    at = {bit[i.clbits[0]]: index[i.qubits[0]] for i in routed.data if i.operation.name == "measure"}
    return tuple(at[variable] for variable in range(variables))


def _is_gate(instruction: Any) -> bool:
    return instruction.operation.name not in ("measure", *_PASSIVE)


def success_probability(circuit: QuantumCircuit, target: Target) -> float:
    """Estimated success probability of a compiled circuit, a fidelity proxy between 0 and 1.

    Π over gates (1 − ε) × Π over read-outs (1 − r) × Π over qubits exp(−idle / min(T1, T2)), with the target's errors
    ε and r, durations, T1 and T2. Idle is the time in which a qubit waits between its first and its last
    instruction when each starts as soon as its qubits are free; before the first, it is in the ground state. What a
    target does not know counts as perfect. The proxy takes errors as independent and any error as failure.

    Args:
        circuit: on the target's qubits and in its instructions; free angles don't matter.
        target: with errors (probabilities) and durations (seconds).

    Source: S. Nishio et al., "Extracting success from IBM's 20-qubit machines using error-aware compilation", ACM
    JETC 16 (2020), doi:10.1145/3386162; idle decay as in MQT Predictor's estimated success probability.
    """
    index = {qubit: position for position, qubit in enumerate(circuit.qubits)}
    free_at = [0.0] * circuit.num_qubits
    last_end: dict[int, float] = {}
    log_probability = 0.0
    for instruction in circuit.data:
        operation, qubits = instruction.operation, tuple(index[qubit] for qubit in instruction.qubits)
        begin = max((free_at[qubit] for qubit in qubits), default=0.0)
        end = begin
        if operation.name == "delay":
            end += _delay_seconds(operation, target)
        elif operation.name != "barrier":
            error, duration = _error_and_duration(target, operation.name, qubits)
            if error >= 1:
                return 0.0
            log_probability += math.log1p(-error)
            end += duration
            for qubit in qubits:
                log_probability -= (begin - last_end.get(qubit, begin)) * _decay_rate(target, qubit)
                last_end[qubit] = end
        for qubit in qubits:
            free_at[qubit] = end
    return math.exp(log_probability)


def _error_and_duration(target: Target, name: str, qubits: tuple[int, ...]) -> tuple[float, float]:
    """Error and seconds of an instruction, 0 where the target does not say."""
    known = target.get(name)
    properties = known.get(qubits) if known else None
    return getattr(properties, "error", None) or 0.0, getattr(properties, "duration", None) or 0.0


def _decay_rate(target: Target, qubit: int) -> float:
    """1/min(T1, T2) in 1/s, 0 where the target knows neither."""
    known = target.qubit_properties[qubit] if target.qubit_properties else None
    times = [value for value in (getattr(known, "t1", None), getattr(known, "t2", None)) if value]
    return 1.0 / min(times) if times else 0.0


def _delay_seconds(operation: Any, target: Target) -> float:
    if operation.unit == "dt":
        return float(operation.duration) * (target.dt or 0.0)
    return float(operation.duration) * {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[operation.unit]


def calibration_of(backend: BackendV2, circuit: QuantumCircuit | None = None) -> dict[str, Any]:
    """Calibration snapshot of a device, or of the part that ``circuit`` uses; JSON-able.

    Returns:
        ``device``, ``id`` (digest of the whole calibration), ``time`` (the properties' own, ISO 8601, or ``None``),
        ``qubits`` (by number: ``t1_seconds``, ``t2_seconds``, ``readout_error``) and ``gates`` (by name and qubits,
        ``cx 0 1``: ``error``, ``seconds``); what the device does not say is left out.
    """
    target = backend.target
    used: set[tuple[str, tuple[int, ...]]] | None = None
    if circuit is not None:
        index = {qubit: position for position, qubit in enumerate(circuit.qubits)}
        used = {(at.operation.name, tuple(index[qubit] for qubit in at.qubits)) for at in circuit.data}
    touched = range(target.num_qubits or 0) if used is None else sorted({qubit for _, at in used for qubit in at})
    qubits = {}
    for qubit in touched:
        known = target.qubit_properties[qubit] if target.qubit_properties else None
        numbers = {
            "t1_seconds": getattr(known, "t1", None),
            "t2_seconds": getattr(known, "t2", None),
            "readout_error": _readout_error(target, qubit),
        }
        qubits[str(qubit)] = _finite(numbers)
    gates = {}
    for name in sorted(target.operation_names):
        for at, properties in (target[name] or {}).items():
            if at is None or properties is None or name in ("measure", *_PASSIVE):
                continue
            if used is None or (name, tuple(at)) in used:
                numbers = {"error": properties.error, "seconds": properties.duration}
                gates[" ".join(map(str, (name, *at)))] = _finite(numbers)
    return {
        "device": backend.name or type(backend).__name__,
        "id": calibration_id(target),
        "time": _calibrated_at(backend),
        "qubits": qubits,
        "gates": gates,
    }


def _readout_error(target: Target, qubit: int) -> float | None:
    known = target.get("measure")
    return getattr(known.get((qubit,)) if known else None, "error", None)


def _finite(numbers: dict[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}


def _calibrated_at(backend: BackendV2) -> str | None:
    """When the device was calibrated, for those that say so (IBM's and their fakes)."""
    properties = getattr(backend, "properties", None)
    found = properties() if callable(properties) else properties
    moment = getattr(found, "last_update_date", None)
    return None if moment is None else str(moment.isoformat())


def calibration_id(target: Target) -> str:
    """Digest (16 hex digits) of everything a target says about its qubits and instructions."""
    instructions = sorted(
        (name, list(at or ()), getattr(known, "error", None) or 0.0, getattr(known, "duration", None) or 0.0)
        for name in target.operation_names
        for at, known in (target[name] or {}).items()
    )
    qubits = [[getattr(known, "t1", None), getattr(known, "t2", None)] for known in target.qubit_properties or ()]
    return hashlib.sha256(repr([target.num_qubits, instructions, qubits]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Routed:
    """Two-qubit gates and depth of a circuit, as written and as routed on a named coupling map."""

    coupling_map: CouplingMapName
    logical_two_qubit_gates: int
    logical_depth: int
    two_qubit_gates: int
    depth: int


def estimate_on(coupling_map: CouplingMapName, variables: int, depth: int) -> Routed:
    """Worst case (complete graph, all fields) of a QAOA circuit on a named coupling map, without compiling anything.

    ``full`` couples every pair. On the others ``swap_network`` runs along a line of qubits, and grids and heavy-hex
    lattices contain such lines. Depth counts a round as 4 (CX, RZ, CX, CX), a mixer as 5 (RX in RZ and SX), a field as
    1 and the start as 3; gates other than CX make it longer.
    """
    pairs = variables * (variables - 1) // 2
    rounds = variables - 1 + variables % 2 if variables > 1 else 0
    gates, layers = depth * pairs, 1 + depth * (rounds + 2)
    if coupling_map == "full":
        return Routed(coupling_map, gates, layers, gates, layers)
    swapped = 3 + depth * (4 * (variables if variables > 1 else 0) + 6)
    return Routed(coupling_map, gates, layers, 3 * gates, swapped)


def estimate_program(coupling_map: CouplingMapName, variables: int, program: ProgramSize) -> Routed:
    """Worst case of a program of Pauli rotations, without compiling anything.

    Every gate on two qubits joins the ends of a line through all of them. Depth takes gates one after the other, with
    turns of the basis around each rotation, at the start and before the read-out; a device's own gates (5 for a turn,
    2 more around each CX) are counted in.
    """
    logical = 3 + 3 * program.rotations + program.two_qubit_gates
    if coupling_map == "full":
        return Routed(coupling_map, program.two_qubit_gates, logical, program.two_qubit_gates, logical)
    apart = 3 * max(variables - 2, 0) + 1
    gates = apart * program.two_qubit_gates
    return Routed(coupling_map, program.two_qubit_gates, logical, gates, 15 + 15 * program.rotations + 3 * gates)
