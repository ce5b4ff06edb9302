"""Qiskit Aer's noise-free simulators, through the SamplerV2 primitive: statevector (CPU, GPU), matrix product state.

Not here: circuits (``resources.circuits.templates``), the job document (``gate_simulator``) or noise (``aer_noisy``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from resources.backends.gate_simulator import GateSimulator
from resources.circuits.templates import Shape, Template, qiskit_template
from resources.envelope import EvidenceClass

#: Where Linux shows the driver of an NVIDIA or AMD GPU.
_GPU_DRIVERS = ("/proc/driver/nvidia/version", "/dev/kfd")


def load_transpiler() -> None:
    """The first circuit transpiled in a process imports the plug-ins of every vendor installed: seconds, and no job's
    time."""
    from qiskit.transpiler.preset_passmanagers.plugin import PassManagerStagePluginManager

    PassManagerStagePluginManager()


@dataclass
class Aer(GateSimulator):
    """Statevector simulation on one thread; the same seed gives the same samples."""

    name = "aer"
    modules = ("qiskit_aer.primitives",)
    packages = ("qiskit-aer", "qiskit")
    seconds_model = (2e-3, 35e-6, 1.7e-9)

    def load(self) -> None:
        """Aer, and the transpiler with its plug-ins."""
        super().load()
        load_transpiler()

    def template(self, structure: Shape) -> Template:
        """The circuit in gates of Aer's native gates, transpiled."""
        return qiskit_template(structure)


@dataclass
class AerMps(Aer):
    """Matrix product state: more qubits than a statevector, with truncation.

    A cut state is not the circuit's any more: a classical approximation, which on dense problems often finds *lower*
    energies than the circuit would. Rows are evidence of a simulator where no cut is possible (at most
    2·log2(``bond_dimension``) + 1 variables), of a surrogate above.

    Attributes:
        bond_dimension: largest kept; weakly entangled circuits (sparse problems, few layers) need little. Time grows
            with its cube.
        truncation_threshold: squared Schmidt weight that may be dropped at each gate.

    Source: G. Vidal, "Efficient classical simulation of slightly entangled quantum computations", Phys. Rev. Lett. 91,
    147902 (2003).
    """

    max_qubits: int = 32
    bond_dimension: int = 16
    truncation_threshold: float = 1e-16
    name = "aer-mps"
    most_qubits: ClassVar[int] = 100

    def template(self, structure: Shape) -> Template:
        """The circuit for Aer's matrix product state."""
        return qiskit_template(
            structure,
            "matrix_product_state",
            matrix_product_state_max_bond_dimension=self.bond_dimension,
            matrix_product_state_truncation_threshold=self.truncation_threshold,
        )

    def claim(self, variables: int) -> EvidenceClass:
        """A surrogate where the state may have been cut."""
        exact = self.bond_dimension >= 2 ** (variables // 2)
        return EvidenceClass.SIMULATOR if exact else EvidenceClass.SURROGATE

    def settings(self) -> dict[str, Any]:
        """The truncation."""
        kept = ("bond_dimension", "truncation_threshold")
        return {"method": "matrix_product_state"} | {name: getattr(self, name) for name in kept}

    def _circuit_seconds(self, n: int, terms: int, depth: int) -> float:
        # measured at bond dimension 16 on one core: a gate between distant qubits is a chain of swaps
        cut = min(self.bond_dimension, 2 ** (n // 2)) / 16
        return 1e-2 + depth * (terms + n) * (1e-4 + 4e-6 * n**2 * max(1.0, cut) ** 3)


@dataclass
class AerGpu(Aer):
    """Statevector simulation on a GPU, where there is one and Aer was built for it.

    Not measured: ``seconds_model`` is a guess of the order that such machines reach.
    """

    max_qubits: int = 26
    name = "aer-gpu"
    tier: ClassVar[str] = "gpu"
    most_qubits: ClassVar[int] = 32
    seconds_model = (2e-2, 1e-5, 2e-11)

    def available(self) -> str | None:
        """Says whether it is the GPU or the build that is missing."""
        if not any(Path(driver).exists() for driver in _GPU_DRIVERS):
            return f"backend {self.name} needs a GPU: this machine has no driver of one"
        if (problem := super().available()) is not None:
            return problem
        from qiskit_aer import AerSimulator

        if "GPU" in AerSimulator().available_devices():
            return None
        return f"backend {self.name} needs Aer built for GPUs: install qiskit-aer-gpu in the place of qiskit-aer"

    def template(self, structure: Shape) -> Template:
        """The circuit for Aer's statevector on the GPU."""
        return qiskit_template(structure, device="GPU")
