"""What every encoding must satisfy; run it on your own plug-in.

Here: small programs and one function per rule, each taking ``(encoding, program, seed)`` and raising
``InvariantError``. Everything is compared with all states of the program as dimod evaluates them, so an encoding is
never its own judge. Not here: the test that runs them over all registered encodings
(``tests/conformance/test_encodings.py``).

    from hybrid_assets.encodings.conformance import check
    check(MyEncoding(), seed=0)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.encodings.arrays import states
from hybrid_assets.encodings.base import Encoding
from hybrid_assets.problems.base import Program
from resources.failures import InvariantError

if TYPE_CHECKING:
    import dimod

Rule = Callable[[Encoding, Program, int], None]

#: Random states per rule.
POINTS = 64


def programs(seed: int) -> dict[str, Program]:
    """Small programs by name: objectives of mixed sign and scale, constraints of every sense and none."""
    made: dict[str, Program] = {}
    ones = [(i, 1.0) for i in range(6)]
    weights = [(0, 3.0), (1, 5.0), (2, 2.0), (3, 4.0), (4, 1.0), (5, 2.0)]
    shapes: dict[str, list[tuple[list[tuple[int, float]], str, float]]] = {
        "unconstrained": [],
        "cardinality": [(ones, "==", 2)],
        "at most": [(ones, "<=", 3)],
        "at least": [(ones, ">=", 4)],
        "knapsack": [(weights, "<=", 7)],
        "cover": [(weights, ">=", 7)],
        "one of each": [(ones[:3], "==", 1), (ones[3:], "==", 1)],
        "overlapping": [(ones[:4], "==", 2), (ones[2:], "<=", 1)],
        "differences": [([(0, 1), (1, -1)], "<=", 0), ([(2, 2), (3, -3), (4, 1)], "==", 0)],
        "always true": [(ones, "<=", 6)],
        "one and a limit": [(ones[:3], "==", 1), (weights, "<=", 6)],
        "decimals": [([(i, 0.25 * a) for i, a in weights], "<=", 1.75)],
        "fractions": [([(i, a / 3) for i, a in weights], "<=", 2.5)],
    }
    terms = {(0, 1, 2): 1.5, (1, 2, 3, 4): -2.0, (0, 2, 4, 5): 0.75, (0, 1, 2, 3, 4): -1.25}
    for k, (name, constraints) in enumerate(shapes.items()):
        made[name] = _program(np.random.default_rng([seed, k]), 10.0 ** (k % 5 - 2), constraints, name)
    for name in ("unconstrained", "cardinality", "knapsack", "one of each"):
        made[f"{name}, higher"] = Program(made[name].cqm, f"conformance: {name}, higher", terms)
    return made


def _program(
    rng: np.random.Generator, scale: float, constraints: list[tuple[list[tuple[int, float]], str, float]], name: str
) -> Program:
    import dimod

    n = 6
    i, j = np.triu_indices(n, 1)
    chosen = rng.random(len(i)) < 0.7
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", range(n))
    cqm.set_objective(
        dimod.BinaryQuadraticModel.from_numpy_vectors(
            scale * rng.normal(size=n),
            (i[chosen], j[chosen], scale * rng.normal(size=int(chosen.sum()))),
            scale * rng.normal(),
            dimod.BINARY,
        )
    )
    for k, (terms, sense, rhs) in enumerate(constraints):
        cqm.add_constraint(terms, sense, rhs, label=f"c{k}")
    return Program(cqm, f"conformance: {name}")


def deterministic(encoding: Encoding, program: Program, seed: int) -> None:
    """Encoding the same program twice gives the same digest."""
    first, second = encoding.encode(program), encoding.encode(program)
    if first.digest != second.digest:
        raise InvariantError(f"encoding {encoding.name}: two encodings of {program.form!r} differ")


def well_formed(encoding: Encoding, program: Program, seed: int) -> None:
    """A BINARY model over ``0 … q-1`` that names its encoding and the program's size."""
    encoded = encoding.encode(program)
    q = encoded.bqm.num_variables
    described = (encoded.encoding, encoded.version, encoded.program_variables)
    if described != (encoding.name, encoding.version, len(program.cqm.variables)):
        raise InvariantError(f"encoding {encoding.name}: name, version or size of {program.form!r} is wrong")
    if encoded.bqm.vartype.name != "BINARY" or list(encoded.bqm.variables) != list(range(q)):
        raise InvariantError(f"encoding {encoding.name}: {program.form!r} is not BINARY over 0 … {q - 1} in order")


def round_trip(encoding: Encoding, program: Program, seed: int) -> None:
    """decode(embed(x)) = x, as int8, for all x that the encoding expresses; feasible ones are among them."""
    encoded = encoding.encode(program)
    x = _all(program)
    if (_feasible(program, x) & ~encoding.expresses(program, x)).any():
        raise InvariantError(f"encoding {encoding.name}: {program.form!r}: a feasible assignment is not expressed")
    for x in _expressed(encoding, program):
        back = encoding.decode(encoded, encoding.embed(encoded, x))
        if back.dtype != np.int8 or not np.array_equal(back, x):
            raise InvariantError(f"encoding {encoding.name}: {program.form!r}: {_text(x)} decodes to {_text(back)}")


def energy(encoding: Encoding, program: Program, seed: int) -> None:
    """Energy of an embedded assignment = objective + penalty: 0 for feasible, positive for infeasible ones."""
    encoded = encoding.encode(program)
    x = _expressed(encoding, program)
    penalty = _energies(encoded.bqm, np.array([encoding.embed(encoded, a) for a in x])) - _objective(program, x)
    feasible = _feasible(program, x)
    tolerance = _tolerance(encoded.bqm)
    wrong = np.where(feasible, np.abs(penalty) > tolerance, penalty <= tolerance)
    if encoding.exact and wrong.any():
        k = int(np.argmax(wrong))
        kind = "feasible" if feasible[k] else "infeasible"
        raise InvariantError(
            f"encoding {encoding.name}: {program.form!r}: the {kind} assignment {_text(x[k])} has penalty {penalty[k]}"
        )


def embedding_is_lowest(encoding: Encoding, program: Program, seed: int) -> None:
    """No random bits have less energy than the embedding of what they decode to, where that is expressed."""
    encoded = encoding.encode(program)
    bits = np.random.default_rng(seed).integers(0, 2, (POINTS, encoded.bqm.num_variables), dtype=np.int8)
    decoded = np.array([encoding.decode(encoded, b) for b in bits])
    expressed = encoding.expresses(program, decoded)
    bits, decoded = bits[expressed], decoded[expressed]
    if not len(bits):
        return
    lowest = np.array([encoding.embed(encoded, x) for x in decoded])
    if (_energies(encoded.bqm, lowest) > _energies(encoded.bqm, bits) + _tolerance(encoded.bqm)).any():
        raise InvariantError(f"encoding {encoding.name}: {program.form!r}: embed does not give the lowest energy")


def optimum_preserved(encoding: Encoding, program: Program, seed: int) -> None:
    """Exact encodings: the model's minimum decodes to a feasible assignment with the least feasible objective.

    Where the encoding leaves groups to the sampler, its minimum is that among bits with exactly one 1 in each.
    """
    if not encoding.exact:
        return
    encoded = encoding.encode(program)
    q = encoded.bqm.num_variables
    bits = states(np.arange(2**q), q)
    for group in encoded.detail.get("groups", ()):
        bits = bits[bits[:, group].sum(axis=1) == 1]
    energies = _energies(encoded.bqm, bits)
    lowest = float(energies.min())
    best = encoding.decode(encoded, bits[np.argmin(energies)])
    x = _all(program)
    optimum = float(_objective(program, x[_feasible(program, x)]).min())
    tolerance = _tolerance(encoded.bqm)
    if not _feasible(program, best[None])[0] or abs(lowest - optimum) > tolerance:
        raise InvariantError(
            f"encoding {encoding.name}: {program.form!r}: its minimum {lowest} at {_text(best)} is not the "
            f"program's optimum {optimum}"
        )


def audited(encoding: Encoding, program: Program, seed: int) -> None:
    """The audit passes, is reproducible and agrees with the program's feasible states."""
    encoded = encoding.encode(program)
    audit = encoding.audit(program, encoded, seed)
    if audit != encoding.audit(program, encoded, seed):
        raise InvariantError(f"encoding {encoding.name}: {program.form!r}: the audit is not reproducible")
    if (audit.variables, audit.interactions) != (encoded.bqm.num_variables, encoded.bqm.num_interactions):
        raise InvariantError(f"encoding {encoding.name}: {program.form!r}: the audit miscounts the model")
    if audit.round_trips < 1 or not audit.penalty_evidence:
        raise InvariantError(f"encoding {encoding.name}: {program.form!r}: the audit shows no evidence")
    if abs(audit.feasible_share - _feasible(program, _all(program)).mean()) > 0.05:
        raise InvariantError(f"encoding {encoding.name}: {program.form!r}: feasible share {audit.feasible_share}")
    if encoding.exact and audit.penalty_verdict == "refuted":
        raise InvariantError(f"encoding {encoding.name}: {program.form!r}: {audit.penalty_evidence}")


#: Every rule, in the order in which failures are easiest to understand.
RULES: tuple[Rule, ...] = (
    well_formed,
    deterministic,
    round_trip,
    energy,
    embedding_is_lowest,
    optimum_preserved,
    audited,
)


def check(encoding: Encoding, seed: int) -> int:
    """Apply all rules to all programs the encoding accepts; returns how many those are.

    Raises:
        InvariantError: the first rule that does not hold.
    """
    accepted = [program for program in programs(seed).values() if encoding.accepts(program)]
    for program in accepted:
        for rule in RULES:
            rule(encoding, program, seed)
    return len(accepted)


def _all(program: Program) -> np.ndarray:
    n = len(program.cqm.variables)
    return states(np.arange(2**n), n)


def _expressed(encoding: Encoding, program: Program) -> np.ndarray:
    x = _all(program)
    return x[encoding.expresses(program, x)]


def _objective(program: Program, assignments: np.ndarray) -> np.ndarray:
    return program.energies(assignments)


def _feasible(program: Program, assignments: np.ndarray) -> np.ndarray:
    return np.array([program.cqm.check_feasible(dict(enumerate(map(int, x)))) for x in assignments])


def _energies(bqm: dimod.BinaryQuadraticModel, bits: np.ndarray) -> np.ndarray:
    return np.asarray(bqm.energies((bits, range(bqm.num_variables))), dtype=float)


def _tolerance(bqm: dimod.BinaryQuadraticModel) -> float:
    """Rounding error of one energy."""
    vectors = bqm.to_numpy_vectors()
    size = np.abs(vectors.linear_biases).sum() + np.abs(vectors.quadratic.biases).sum() + abs(vectors.offset)
    return 1e-12 * float(size)


def _text(bits: np.ndarray) -> str:
    return "".join(map(str, bits))
