"""Any PennyLane device that is installed, by name: simulators, noisy ones, plug-ins of vendors.

Here: what the environment declares about the device, the circuit with its noise, its execution through PennyLane's own
preprocessing. Not here: the fast noise-free simulator (``lightning``) or the job document (``gate_simulator``).

Settings: ``HYBRID_PENNYLANE_DEVICE`` (default ``default.mixed``), ``HYBRID_PENNYLANE_OPTIONS`` (JSON object of further
arguments of the device) and ``HYBRID_PENNYLANE_EVIDENCE`` (what a plug-in's rows are evidence of).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends.base import Capabilities
from resources.backends.gate_simulator import GateSimulator
from resources.circuits.templates import Shape, Template, pennylane_gates
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, digest_of
from resources.failures import BackendError, FailureClass, InputError

if TYPE_CHECKING:
    from pennylane.operation import Operator

#: Depolarizing probability after a one-qubit and after a two-qubit gate (on each of its qubits), and of a wrong bit,
#: on ``default.mixed``: round numbers of the order that superconducting devices publish.
NOISE = {"one_qubit": 3e-4, "two_qubit": 3e-3, "readout": 1e-2}
#: PennyLane's own simulators, which take a seed.
_SIMULATORS = ("default.", "lightning.", "reference.")
#: Evidence classes that may be declared; an undeclared plug-in counts as a simulator.
_DECLARED = ("hardware", "emulator", "simulator", "surrogate")


def _options() -> str:
    return os.environ.get("HYBRID_PENNYLANE_OPTIONS") or "{}"


@dataclass
class PennyLaneDevice(GateSimulator):
    """A PennyLane device by name.

    ``default.mixed`` runs with ``NOISE`` and is an emulator; PennyLane's other simulators are simulators; a plug-in is
    hardware only where ``HYBRID_PENNYLANE_EVIDENCE`` says so.

    Attributes:
        device: the device's name.
        options: JSON object of its other arguments; it may hold a secret and is never shown.
        declared: the evidence class of a plug-in.

    Raises:
        InputError: a setting is wrong.
    """

    max_qubits: int = 5
    device: str = field(default_factory=lambda: os.environ.get("HYBRID_PENNYLANE_DEVICE") or "default.mixed")
    options: str = field(default_factory=_options, repr=False)
    declared: str = field(default_factory=lambda: os.environ.get("HYBRID_PENNYLANE_EVIDENCE") or "simulator")
    name = "pennylane"
    modules = ("pennylane",)
    packages = ("pennylane",)
    # of default.qubit; lightning is faster
    seconds_model = (1e-2, 3e-4, 1e-8)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.declared not in _DECLARED:
            problem = f"{self.declared!r} is unknown"
            raise InputError("HYBRID_PENNYLANE_EVIDENCE", "value", problem, f"use one of {', '.join(_DECLARED)}")
        try:
            read = json.loads(self.options)
        except ValueError:
            read = None
        if not isinstance(read, dict):
            # the text may hold a secret: it is not repeated
            raise InputError("HYBRID_PENNYLANE_OPTIONS", "value", "it is not a JSON object", 'write {"name": value}')

    @property
    def evidence_class(self) -> EvidenceClass:
        """What the device's rows may claim."""
        if self.device == "default.mixed":
            return EvidenceClass.EMULATOR
        return EvidenceClass.SIMULATOR if self.device.startswith(_SIMULATORS) else EvidenceClass(self.declared)

    def capabilities(self) -> Capabilities:
        """Both QAOA forms. A plug-in that is declared hardware costs money, is elsewhere, and cannot be looked up."""
        evidence = self.evidence_class
        real = evidence is EvidenceClass.HARDWARE
        return Capabilities(
            evidence,
            self.max_qubits,
            (*QAOA, PAULI),
            KINDS,
            metered=real,
            tier="simulator" if evidence is EvidenceClass.SURROGATE else evidence.value,
            leaves_machine=not self.device.startswith(_SIMULATORS),
            lookup=not real,
            # its options may hold a secret
            device=" ".join([self.device, *([digest_of(self.options)[:8]] if self.options != "{}" else [])]),
        )

    def available(self) -> str | None:
        """Names PennyLane, or the device that no installed plug-in offers."""
        if (problem := super().available()) is not None:
            return problem
        known = {entry.name for entry in entry_points(group="pennylane.plugins")}
        if self.device == "null.qubit":
            return f"backend {self.name} takes no null.qubit: it computes nothing and answers zeros"
        if self.device in known:
            return None
        return f"backend {self.name} needs the PennyLane device {self.device}: install its plug-in"

    def calibration(self) -> dict[str, Any] | None:
        """The error probabilities of ``default.mixed``, which never change; it has no coherence times."""
        return {"device": self.device, "time": None, **NOISE} if self._noisy else None

    def settings(self) -> dict[str, Any]:
        """The device and its noise."""
        return {"device": self.device} | ({"noise": NOISE} if self._noisy else {})

    def fidelity(self, structure: Shape) -> float | None:
        """Π (1 − error) over gates and read-outs of the noise model."""
        if not self._noisy:
            return None
        touched = [len(gate.wires) for gate in pennylane_gates(structure, [0.1] * structure.parameters)]
        gates = (1 - NOISE["one_qubit"]) ** touched.count(1) * (1 - NOISE["two_qubit"]) ** (2 * touched.count(2))
        return float(gates * (1 - NOISE["readout"]) ** structure.variables)

    @property
    def _noisy(self) -> bool:
        return self.device == "default.mixed"

    def _circuit_seconds(self, n: int, terms: int, depth: int) -> float:
        # default.mixed as measured: it keeps 4ⁿ numbers
        if self._noisy:
            return 1e-2 + depth * (terms + n) * (1e-3 + 8e-7 * 4.0**n)
        return super()._circuit_seconds(n, terms, depth)

    def template(self, structure: Shape) -> Template:
        """The circuit, built for each set of angles; devices differ in what they decompose."""
        return _template(structure, self.device, self.options)


class _DeviceTemplate:
    """A circuit for any device, as ``Template``."""

    def __init__(self, structure: Shape, device: str, options: str) -> None:
        import pennylane as qml

        self._structure, self._device, self._options = structure, device, json.loads(options)
        logical = qml.tape.QuantumScript(pennylane_gates(structure, [0.1] * structure.parameters))
        self.depth: int = logical.graph.get_depth()
        self.two_qubit_gates: int = sum(len(gate.wires) == 2 for gate in logical.operations)

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        """As ``Template.sample``, one batch of scripts; a device that takes no seed draws as it likes."""
        import pennylane as qml

        wires = range(self._structure.variables)
        scripts = [
            qml.tape.QuantumScript(self._operations(row), [qml.sample(wires=wires)], shots=shots)
            for row in angles.tolist()
        ]
        seeded = {"seed": seed} if self._device.startswith(_SIMULATORS) else {}
        try:
            device = qml.device(self._device, wires=len(wires), **seeded, **self._options)
        except Exception as error:
            # its text may quote the options, which may hold a secret; it is not chained either
            raise self._unable(error) from None
        try:
            answers = qml.execute(scripts, device, diff_method=None)
        except qml.exceptions.DeviceError as error:
            raise self._unable(error) from None
        return np.stack([np.asarray(bits, dtype=np.int8).reshape(shots, -1) for bits in answers])

    def _unable(self, error: Exception) -> BackendError:
        return BackendError(
            f"the PennyLane device {self._device} cannot be used for this circuit ({type(error).__name__}): see "
            "HYBRID_PENNYLANE_DEVICE and HYBRID_PENNYLANE_OPTIONS",
            FailureClass.CAPABILITY,
        )

    def _operations(self, angles: list[float]) -> list[Operator]:
        import pennylane as qml

        gates = pennylane_gates(self._structure, angles)
        if self._device != "default.mixed":
            return gates
        noisy: list[Operator] = []
        for gate in gates:
            error = NOISE["two_qubit" if len(gate.wires) == 2 else "one_qubit"]
            noisy += [gate, *(qml.DepolarizingChannel(error, wire) for wire in gate.wires)]
        return noisy + [qml.BitFlip(NOISE["readout"], wire) for wire in range(self._structure.variables)]


@lru_cache(maxsize=32)
def _template(structure: Shape, device: str, options: str) -> _DeviceTemplate:
    return _DeviceTemplate(structure, device, options)
