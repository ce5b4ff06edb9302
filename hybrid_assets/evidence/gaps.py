"""How far an objective is from a reference, how much better one arm is than another, and who won.

Here: the formulas, for either sense. Not here: which reference is used (``comparison``). Throughout, a tolerance is
relative to the larger of the two absolute values compared.
"""

from __future__ import annotations

from typing import Literal

Sense = Literal["min", "max"]
Winner = Literal["quantum", "classical", "tie", "none"]
GapKind = Literal["relative", "normalized"]

#: Objectives closer than this (relative) count as equal; families whose solutions are real numbers need more.
TOLERANCE = 1e-9

#: The formulas in words, as stored beside the numbers; ``worse by`` is signed for the sense.
DEFINITION: dict[GapKind, str] = {
    "relative": "(worse by) / |reference|",
    "normalized": "(worse by) / |random mean - reference|",
}


def loss(objective: float, reference: float, sense: Sense) -> float:
    """By how much ``objective`` is worse than ``reference``; negative when it is better."""
    return reference - objective if sense == "max" else objective - reference


def same(a: float, b: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two objectives are equal within the relative tolerance."""
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def better(a: float, b: float, sense: Sense, tolerance: float = TOLERANCE) -> bool:
    """Whether ``a`` is better than ``b`` beyond the tolerance."""
    return loss(a, b, sense) < 0 and not same(a, b, tolerance)


def gap(
    objective: float | None,
    reference: float | None,
    sense: Sense,
    kind: GapKind = "relative",
    random_mean: float | None = None,
) -> float | None:
    """Gap to the reference: 0 is as good, positive worse, negative better.

    ``relative`` divides by |reference|. Where objectives cross zero (mean-variance portfolios) that has no meaning;
    ``normalized`` divides by the distance from the mean of uniformly random feasible solutions to the reference, so
    that 1 is as good as chance.

    Returns:
        ``None`` when a number is missing or the divisor is zero (and the objective is not the reference itself).
    """
    if objective is None or reference is None:
        return None
    worse = loss(objective, reference, sense)
    if kind == "relative":
        scale = abs(reference)
    elif random_mean is None:
        return None
    else:
        scale = max(loss(random_mean, reference, sense), 0.0)
    if worse == 0:
        return 0.0
    return worse / scale if scale > 0 else None


def lift(quantum_gap: float | None, random_gap: float | None) -> float | None:
    """Quantum lift: the random control's gap minus the quantum arm's, on the gaps' own scale.

    Positive when quantum samples gave a better best candidate than as many uniformly random feasible assignments,
    completed and repaired in the same way. With normalized gaps this is (best random − best quantum) /
    (random mean − reference).
    """
    return None if quantum_gap is None or random_gap is None else random_gap - quantum_gap


def winner(quantum: float | None, classical: float | None, sense: Sense, tolerance: float = TOLERANCE) -> Winner:
    """Which side has the better feasible objective; an absent one loses, equal within the tolerance is a tie."""
    if quantum is None or classical is None:
        return "none" if quantum is classical else "classical" if quantum is None else "quantum"
    if same(quantum, classical, tolerance):
        return "tie"
    return "quantum" if better(quantum, classical, sense, tolerance) else "classical"
