"""Programs of Pauli rotations: the document, what is read out for it, values and their errors."""

from __future__ import annotations

import json
from itertools import islice, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.backends.conformance_programs import asymmetric_program, exact_values, program_envelope
from resources.backends.heuristic import Heuristic
from resources.backends.measuring import noted, reading_again, tables
from resources.circuits import pauli
from resources.circuits.pauli import MOST_CIRCUITS, MOST_STRINGS, PauliProgram, Reading, Rotation, Term
from resources.circuits.templates import logical_circuit
from resources.envelope import PAULI, Algorithm
from resources.failures import BackendError, FailureClass
from resources.payloads import from_bytes, reading_of, size_of, to_bytes

ONE: dict[str, Any] = {"initial": [0, 1], "rotations": [{"pauli": "XZ", "parameter": 0}], "rows": [[0.5]]}


def strings(qubits: int) -> st.SearchStrategy[str]:
    return st.text("IXYZ", min_size=qubits, max_size=qubits)


@st.composite
def programs(draw: st.DrawFn) -> PauliProgram:
    qubits, width = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    number = st.floats(-3, 3)
    places = st.none() | st.integers(0, width - 1) if width else st.none()
    active = strings(qubits).filter(lambda string: set(string) != {"I"})
    rotation = st.builds(Rotation, pauli=active, parameter=places, factor=number)
    term = st.builds(Term, pauli=strings(qubits), coefficient=number)
    return PauliProgram(
        initial=draw(st.tuples(*[st.sampled_from([0, 1])] * qubits)),
        rotations=draw(st.lists(rotation, max_size=5).map(tuple)),
        rows=draw(st.lists(st.tuples(*[number] * width), min_size=2, max_size=3).map(tuple)),
        observables=draw(
            st.lists(st.lists(term, min_size=1, max_size=4).map(tuple), min_size=1, max_size=2).map(tuple)
        ),
    )


def ideal_bits(reading: Reading, shots: int) -> list[np.ndarray]:
    """Read-outs in the exact proportions of each circuit, as near as ``shots`` allow."""
    from qiskit.quantum_info import Statevector

    found = []
    for measurement in reading.measurements:
        circuit = logical_circuit(measurement.structure)
        circuit.remove_final_measurements()
        n, parts = measurement.structure.variables, []
        for angles in measurement.angles:
            chances = Statevector(circuit.assign_parameters(angles.tolist())).probabilities()
            ends = np.rint(np.cumsum(chances) * shots).astype(int)
            states = np.repeat(np.arange(2**n), np.diff(ends, prepend=0))
            parts.append((states[:, None] >> np.arange(n)) & 1)
        found.append(np.array(parts))
    return found


@settings(max_examples=25, deadline=None)
@given(programs())
def test_values_are_those_of_the_matrices(program: PauliProgram) -> None:
    for kind, asked in (("estimate", program), ("kernel", program.model_copy(update={"observables": ()}))):
        reading = Reading.of(asked, kind)  # type: ignore[arg-type]
        values, _ = reading.values(ideal_bits(reading, 200_000))
        assert values.shape == reading.shape
        assert values == pytest.approx(exact_values(asked, kind), abs=2e-3)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(programs())
def test_every_string_is_read_in_some_basis_and_storage_keeps_the_program(program: PauliProgram) -> None:
    reading = Reading.of(program, "estimate")
    assert all(set(basis) <= set("XYZ") for basis in reading.bases)
    for terms in program.observables:
        for term in terms:
            assert any(all(p in ("I", b) for p, b in zip(term.pauli, basis, strict=True)) for basis in reading.bases)
    assert from_bytes("estimate", to_bytes(program)) == program
    again = reading_again(json.loads(json.dumps(noted(reading))))
    assert (again.program, again.kind, again.bases) == (program, "estimate", reading.bases)


def test_commuting_strings_share_a_basis() -> None:
    terms = [Term(pauli=string, coefficient=1.0) for string in ("ZZI", "IZZ", "YYY", "YIY", "III")]
    program = PauliProgram(initial=(0, 0, 0), observables=(tuple(terms),))
    assert sorted(Reading.of(program, "estimate").bases) == ["YYY", "ZZZ"]


def test_standard_errors_are_those_of_repeated_jobs() -> None:
    # correlated terms of one basis: errors do not simply add up
    program = PauliProgram(
        initial=(0, 0),
        rotations=(Rotation(pauli="XI", factor=1.0), Rotation(pauli="XX", factor=0.8)),
        observables=((Term(pauli="ZI", coefficient=1.0), Term(pauli="ZZ", coefficient=-0.7)),),
    )
    reading = Reading.of(program, "estimate")
    (everything,), rng = ideal_bits(reading, 100_000), np.random.default_rng(1)
    drawn = [reading.values([everything[:, rng.integers(0, 100_000, 400)]]) for _ in range(400)]
    scatter = np.std([values[0, 0] for values, _ in drawn])
    told = np.mean([errors[0, 0] for _, errors in drawn])
    assert told == pytest.approx(scatter, rel=0.15)


@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_read_out_errors_are_undone_and_raw_values_are_kept(kind: Any) -> None:
    program = asymmetric_program(kind)
    reading, exact = Reading.of(program, kind), exact_values(program, kind)
    confusion = np.array([[[0.97, 0.10], [0.03, 0.90]], [[0.93, 0.04], [0.07, 0.96]], [[0.99, 0.2], [0.01, 0.8]]])
    rng = np.random.default_rng(3)
    flipped = []
    for bits in ideal_bits(reading, 40_000):
        one = confusion[np.arange(3), 1, bits]
        flipped.append((rng.random(bits.shape) < one).astype(np.int8))
    told = tables(reading, flipped, [confusion] * len(flipped))
    mitigated, raw = np.array(told["values"]), np.array(told["raw_values"])
    errors = np.array(told["standard_errors"])
    assert (np.abs(mitigated - exact) <= 5 * errors + 1e-3).all()
    assert np.abs(raw - exact).max() > 10 * np.abs(mitigated - exact).max()
    _, without = reading.values(flipped)
    assert (errors >= without).all()
    assert told["post_processing"] == "mitigated"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"rows": [[0.5], [0.5, 0.1]]}, "same number of parameters"),
        ({"rotations": [{"pauli": "X", "parameter": 0}]}, "one per qubit"),
        ({"rotations": [{"pauli": "II", "parameter": 0}]}, "global phase"),
        ({"rotations": [{"pauli": "XQ", "parameter": 0}]}, "rotations.0.pauli"),
        ({"rotations": [{"pauli": "XX", "parameter": 1}]}, "parameter 1 is not in the rows"),
        ({"initial": [0, 2]}, "initial.1"),
        ({"observables": [[]]}, "observables.0"),
        ({"observables": [[{"pauli": "ZZZ", "coefficient": 1.0}]]}, "one per qubit"),
        ({"rows": [[1e999]]}, "rows.0.0"),
        ({"rows": [[1e200]], "rotations": [{"pauli": "XX", "parameter": 0, "factor": 1e200}]}, "not finite"),
        ({"observables": [[{"pauli": "ZZ", "coefficient": 1e308}]]}, "more than 1e.100"),
        ({"shots": 5}, "shots"),
    ],
)
def test_a_wrong_program_is_refused_with_its_field(change: dict[str, Any], place: str) -> None:
    with pytest.raises(BackendError, match=place) as refused:
        PauliProgram.from_bytes(json.dumps(ONE | change).encode())
    assert refused.value.failure_class is FailureClass.CIRCUIT


def test_a_program_that_asks_nothing_or_too_much_is_refused() -> None:
    program = PauliProgram.model_validate(ONE)
    terms = ((Term(pauli="ZZ", coefficient=1.0),),)
    rows = tuple((0.1 * k,) for k in range(450))
    for kind, wrong in (
        ("estimate", program),
        ("kernel", program),
        ("kernel", program.model_copy(update={"observables": terms, "rows": ((0.1,), (0.2,))})),
        ("kernel", program.model_copy(update={"rows": rows})),
    ):
        with pytest.raises(BackendError) as refused:
            Reading.of(wrong, kind)  # type: ignore[arg-type]
        assert refused.value.failure_class is FailureClass.CIRCUIT
    assert MOST_CIRCUITS < 450 * 449 // 2


def test_the_envelope_must_announce_what_its_payload_is() -> None:
    program = asymmetric_program("estimate")
    envelope = program_envelope(Heuristic(), program, "estimate", Algorithm(name=PAULI))
    assert reading_of(envelope, program).shape == envelope.expected_shape == (3, 2)
    assert size_of(program) == 3
    for change in (
        {"payload_variables": 2},
        {"expected_shape": (3, 1)},
        {"program": envelope.program.model_copy(update={"circuits": 1})},
        {"program": envelope.program.model_copy(update={"two_qubit_gates": 0})},
        {"kind": "kernel"},
    ):
        with pytest.raises(BackendError) as refused:
            reading_of(envelope.model_copy(update=change), program)
        assert refused.value.failure_class is FailureClass.CIRCUIT


@pytest.mark.parametrize("size", [1e-200, 1e-9, 1e90])
def test_values_and_errors_scale_with_their_coefficients(size: float) -> None:
    program = asymmetric_program("estimate")
    scaled = tuple(
        tuple(Term(pauli=term.pauli, coefficient=term.coefficient * size) for term in terms)
        for terms in program.observables
    )
    reading = Reading.of(program, "estimate")
    bits = ideal_bits(reading, 100)
    values, errors = reading.values(bits)
    found = Reading.of(program.model_copy(update={"observables": scaled}), "estimate").values(bits)
    np.testing.assert_allclose(found[0], values * size, rtol=1e-9)
    np.testing.assert_allclose(found[1], errors * size, rtol=1e-9)


@pytest.mark.parametrize("kind", ["estimate", "kernel"])
@pytest.mark.parametrize("mitigated", [False, True])
def test_values_do_not_depend_on_how_many_read_outs_are_held_at_a_time(
    kind: Any, mitigated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading.of(asymmetric_program(kind), kind)
    bits = ideal_bits(reading, 50)
    confusion = [np.array([[[0.97, 0.10], [0.03, 0.90]]] * 3)] * len(bits) if mitigated else None
    whole = reading.values(bits, confusion)
    monkeypatch.setattr(pauli, "_SIGNS_AT_ONCE", 1)
    np.testing.assert_allclose(reading.values(bits, confusion), whole)


@pytest.mark.parametrize("shots", [1, 100])
def test_shots_that_agree_make_no_value_exact(shots: int) -> None:
    overlap = Reading.of(PauliProgram.model_validate(ONE | {"rows": [[0.5], [0.7]]}), "kernel")
    values, errors = overlap.values([np.tile(np.array([0, 1]), (1, shots, 1))])
    assert values[0, 1] == values[1, 0] == 1.0
    assert errors[0, 1] == pytest.approx(np.sqrt((shots + 1) / (shots + 3)) / (shots + 2))
    assert errors[0, 0] == 0.0
    halves = (Term(pauli="ZI", coefficient=3.0), Term(pauli="ZI", coefficient=-1.0))
    terms = (*halves, Term(pauli="II", coefficient=5.0)), (Term(pauli="II", coefficient=1.0),)
    asked = Reading.of(PauliProgram.model_validate(ONE | {"observables": terms}), "estimate")
    values, told = asked.values([np.tile(np.array([0, 1]), (1, shots, 1))])
    # a Z that turned over would change the value by 4; a constant has no error
    assert (values.tolist(), told.tolist()) == ([[7.0, 1.0]], [[pytest.approx(4 * errors[0, 1]), 0.0]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"initial": [0] * 60, "rotations": [{"pauli": "X" * 60}] * 900}, "gates of a circuit"),
        ({"rotations": [{"pauli": "XZ", "parameter": 0}] * 300, "rows": [[0.1]] * 70_000}, "angles"),
    ],
)
def test_what_no_process_can_hold_is_refused(change: dict[str, Any], words: str) -> None:
    qubits = len(change.get("initial", "01"))
    program = PauliProgram.model_validate(ONE | {"observables": [[{"pauli": "Z" * qubits, "coefficient": 1}]]} | change)
    with pytest.raises(BackendError, match=f"{words} are more than .* split the job"):
        Reading.of(program, "estimate")


def test_too_many_strings_are_refused_before_they_are_sorted_into_bases() -> None:
    strings = ["".join(letters) for letters in islice(product("XYZ", repeat=9), MOST_STRINGS + 1)]
    terms = tuple(Term(pauli=string, coefficient=1.0) for string in strings)
    with pytest.raises(BackendError, match="different Pauli strings"):
        Reading.of(PauliProgram(initial=(0,) * 9, observables=(terms,)), "estimate")
