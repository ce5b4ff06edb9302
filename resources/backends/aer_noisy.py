"""Qiskit Aer with a uniform noise model: an emulator of a noisy gate-model device, for the staging environment.

Here: the error rates, which are round numbers of the order that superconducting devices publish, not a calibration of
any one device. Not here: device topologies and real calibration snapshots.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from resources.backends.gate_simulator import GateSimulator
from resources.circuits.ising import Structure
from resources.circuits.templates import Noise, Template, qiskit_template
from resources.envelope import EvidenceClass

RATES = Noise(one_qubit=3e-4, two_qubit=3e-3, readout=1e-2)


@dataclass
class AerNoisy(GateSimulator):
    """Density-matrix simulation on one thread (4ⁿ amplitudes, so few qubits); the same seed gives the same samples."""

    max_qubits: int = 8
    name = "aer-noisy"
    modules = ("qiskit_aer.noise",)
    evidence: ClassVar[EvidenceClass] = EvidenceClass.EMULATOR
    packages = ("qiskit-aer", "qiskit")
    seconds_model = (5e-3, 5e-5, 1e-5)

    def template(self, structure: Structure) -> Template:
        """The circuit in Aer's native gates, each with its error."""
        return qiskit_template(structure, RATES)

    def calibration(self) -> dict[str, Any]:
        """The error rates of the model; they never change."""
        return {"model": "uniform depolarizing and read-out error", **asdict(RATES)}
