"""Qiskit Aer's statevector simulator, through the SamplerV2 primitive.

Not here: circuits (``resources.circuits.templates``) or the job document (``gate_simulator``).
"""

from __future__ import annotations

from dataclasses import dataclass

from resources.backends.gate_simulator import GateSimulator
from resources.circuits.ising import Structure
from resources.circuits.templates import Template, qiskit_template


@dataclass
class Aer(GateSimulator):
    """Noise-free statevector simulation on one thread; the same seed gives the same samples."""

    name = "aer"
    modules = ("qiskit_aer.primitives",)
    packages = ("qiskit-aer", "qiskit")
    seconds_model = (2e-3, 35e-6, 1.7e-9)

    def template(self, structure: Structure) -> Template:
        """The circuit in gates of Aer's native gates, transpiled."""
        return qiskit_template(structure)
