"""Read-out mitigation and post-selection.

Here: confusion matrices, mitigated expectations (by mthree, the extra ``mitigation``), and shots dropped for violating
a symmetry. Not here: candidates. Quasi-probabilities may be negative; they serve expectations and training, never
samples.

Source: P. D. Nation, H. Kang, N. Sundaresan, J. M. Gambetta, "Scalable mitigation of measurement errors on quantum
computers", PRX Quantum 2, 040326 (2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    import dimod
    from qiskit.transpiler import Target

#: The envelope's tag that declares a symmetry for post-selection: ``hamming-weight=3`` or ``parity=even``.
SYMMETRY_TAG = "symmetry"


def confusion_of(target: Target, qubits: Sequence[int]) -> np.ndarray:
    """Confusion matrices from a device's own calibration; a qubit without one counts as read out perfectly.

    Args:
        target: of the device.
        qubits: physical qubit on which each variable is read out (``Prepared.measured``).

    Returns:
        Shape ``(n, 2, 2)``: entry ``[i, seen, prepared]`` is P(seen | prepared) of variable i.
    """
    known = target.get("measure") or {}
    matrices = []
    for qubit in qubits:
        properties = known.get((qubit,))
        error = getattr(properties, "error", None) or 0.0
        up = getattr(properties, "prob_meas1_prep0", None)
        down = getattr(properties, "prob_meas0_prep1", None)
        up, down = (error if value is None else value for value in (up, down))
        matrices.append([[1.0 - up, down], [up, 1.0 - down]])
    return np.array(matrices)


def mitigated_expectation(payload: dimod.BinaryQuadraticModel, bits: np.ndarray, confusion: np.ndarray) -> float:
    """⟨C⟩ from the quasi-probabilities of the states that were seen.

    Args:
        payload: BINARY model over 0 … n−1.
        bits: read-outs, shape ``(shots, n)``, variable 0 first.
        confusion: shape ``(n, 2, 2)``.

    Raises:
        BackendError: class ``capability``, when mthree is not installed.
    """
    states, quasi, _ = _corrected(bits, confusion)
    return float(quasi @ payload.energies((states, range(states.shape[1]))))


def nearest_probabilities(bits: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct states, shape ``(k, n)``, and the probability distribution nearest to their quasi-probabilities, for
    statistics of a distribution's tail. Arguments and errors as ``mitigated_expectation``."""
    states, _, probabilities = _corrected(bits, confusion)
    return states, probabilities


def _corrected(bits: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        from mthree import M3Mitigation
    except ImportError as error:
        raise BackendError(
            "read-out mitigation needs mthree: install the extra 'mitigation'", FailureClass.CAPABILITY
        ) from error

    states, counts = np.unique(bits, axis=0, return_counts=True)
    # mthree's texts have qubit 0 on the right
    texts = ["".join(map(str, row)) for row in states[:, ::-1].tolist()]
    mitigation = M3Mitigation()
    mitigation.cals_from_matrices([np.asarray(matrix, dtype=np.float32) for matrix in confusion])
    quasi = mitigation.apply_correction(dict(zip(texts, counts.tolist(), strict=True)), list(range(bits.shape[1])))
    nearest = quasi.nearest_probability_distribution()
    return (
        states,
        np.array([quasi.get(text, 0.0) for text in texts]),
        np.array([nearest.get(text, 0.0) for text in texts]),
    )


def declared_symmetry(tags: Mapping[str, str]) -> tuple[str, int]:
    """The symmetry that an envelope declares: ``("hamming-weight", k)`` or ``("parity", 0 or 1)``.

    Raises:
        BackendError: class ``capability``, when there is none that can be checked.
    """
    kind, _, value = tags.get(SYMMETRY_TAG, "").partition("=")
    if kind == "hamming-weight" and value.isdecimal():
        return kind, int(value)
    if kind == "parity" and value in ("even", "odd"):
        return kind, int(value == "odd")
    raise BackendError(
        f"post-selection needs a symmetry: tag {SYMMETRY_TAG!r} is {tags.get(SYMMETRY_TAG)!r}, "
        "expected hamming-weight=K, parity=even or parity=odd",
        FailureClass.CAPABILITY,
    )


def postselected(bits: np.ndarray, symmetry: tuple[str, int]) -> np.ndarray:
    """The read-outs (shape ``(shots, n)``) that have the symmetry.

    Raises:
        BackendError: class ``capability``, when none has.
    """
    kind, value = symmetry
    weights = bits.sum(axis=1)
    kept = bits[weights == value if kind == "hamming-weight" else weights % 2 == value]
    if not len(kept):
        raise BackendError(f"none of {len(bits)} shots has {kind} {value}", FailureClass.CAPABILITY)
    return kept
