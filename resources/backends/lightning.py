"""PennyLane's ``lightning.qubit`` statevector simulator, through the device interface.

Not here: circuits (``resources.circuits.templates``) or the job document (``gate_simulator``).
"""

from __future__ import annotations

from dataclasses import dataclass

from resources.backends.gate_simulator import GateSimulator
from resources.circuits.templates import Shape, Template, pennylane_template


@dataclass
class Lightning(GateSimulator):
    """Noise-free statevector simulation; the same seed gives the same samples."""

    name = "lightning"
    modules = ("pennylane",)
    packages = ("pennylane-lightning", "pennylane")
    # per amplitude as at 20 qubits; up to 16 the state fits the cache and takes a third of it
    seconds_model = (2e-3, 17e-6, 7e-10)

    def template(self, structure: Shape) -> Template:
        """The circuit in gates of lightning.qubit, preprocessed."""
        return pennylane_template(structure)
