"""Envelope and result: frozen, hashed, coherent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from resources.envelope import (
    Algorithm,
    Compilation,
    EvidenceClass,
    JobEnvelope,
    JobResult,
    Mitigation,
    ProgramSize,
    SampleCount,
    TimeoutBudget,
    canonical_json,
    digest_of,
)

BASE: dict[str, Any] = {
    "correlation_id": "request-1",
    "purpose": "propose candidates",
    "owner": "team:a",
    "problem_type": "maxcut",
    "instance": "maxcut.g1",
    "input_digest": "a" * 64,
    "encoding": "penalty",
    "encoding_digest": "b" * 64,
    "payload_ref": "c" * 64,
    "payload_variables": 4,
    "algorithm": Algorithm(),
    "backend": "aer",
    "expected_shape": (1024, 4),
}
#: Another value for every field of the envelope.
OTHER: dict[str, Any] = {
    "correlation_id": "request-2",
    "purpose": "replay",
    "owner": "team:b",
    "problem_type": "qubo",
    "instance": "maxcut.g2",
    "input_digest": "d" * 64,
    "encoding": "other",
    "encoding_digest": "e" * 64,
    "payload_ref": "f" * 64,
    "payload_variables": 5,
    "program": ProgramSize(circuits=2),
    "algorithm": Algorithm(seed=1),
    "backend": "lightning",
    "device": "another",
    "expected_shape": (1024, 5),
    "timeout": TimeoutBudget(execution=61.0),
    "fallback": ("annealer",),
    "priority": 1,
    "sensitivity": "public",
    "cost_ceiling": 1.0,
    "impact": "high",
    "policy_version": "dev-2",
    "replay_of": "1" * 64,
    "repetition": 1,
    "jobs": 2,
    "round": 1,
    "parent_digest": "0" * 64,
    "tags": {"environment": "dev"},
}
ALGORITHM: dict[str, Any] = {
    "name": "qaoa-trained",
    "version": "another",
    "depth": 6,
    "ramp_lengths": (1.0,),
    "shots": 1025,
    "tuning_shots": 257,
    "training_circuits": 41,
    "cvar_alpha": 0.2,
    "tuning": "local",
    "seed": 1,
    "groups": ((0, 1),),
    "compilation": Compilation(optimization_level=3),
    "mitigation": Mitigation(readout=True),
}
#: What makes it another job; everything else is who asked, why and what for.
IN_KEY = {"payload_ref", "algorithm", "backend", "device", "timeout", "repetition"}


def envelope(**changes: Any) -> JobEnvelope:
    return JobEnvelope(**(BASE | changes))


def result(**changes: Any) -> dict[str, Any]:
    return {
        "envelope_digest": "a" * 64,
        "samples": (SampleCount(bits="01", energy=-1.0, count=3), SampleCount(bits="11", energy=0.5, count=1)),
        "evidence_class": "simulator",
        "backend": "aer",
        "backend_version": "1",
        "sdk_versions": {},
        "width": 2,
        "depth": 1,
        "two_qubit_gates": 1,
        "shots": 4,
    } | changes


def test_the_alternatives_cover_every_field() -> None:
    assert set(OTHER) == set(JobEnvelope.model_fields) - {"schema_version", "kind"}
    assert set(ALGORITHM) == set(Algorithm.model_fields)


@pytest.mark.parametrize("field", OTHER)
def test_every_field_but_the_correlation_id_is_in_the_digest(field: str) -> None:
    changed = envelope(**{field: OTHER[field]})
    assert (changed.digest == envelope().digest) == (field == "correlation_id")
    assert (changed.idempotency_key == envelope().idempotency_key) == (field not in IN_KEY)
    # a copy is its own document, also when the original was digested before
    original = envelope()
    original.digest, original.idempotency_key  # noqa: B018
    copy = original.model_copy(update={field: OTHER[field]})
    assert (copy.digest, copy.idempotency_key) == (changed.digest, changed.idempotency_key)


def test_the_kind_is_in_digest_and_key_and_has_its_algorithm() -> None:
    program = Algorithm(name="pauli-rotations")
    estimate, kernel = (envelope(kind=kind, algorithm=program) for kind in ("estimate", "kernel"))
    assert estimate.digest != kernel.digest
    assert estimate.idempotency_key != kernel.idempotency_key
    for kind, algorithm in (("estimate", Algorithm()), ("kernel", Algorithm()), ("sample", program)):
        with pytest.raises(ValidationError, match="does not go with"):
            envelope(kind=kind, algorithm=algorithm)


def test_a_result_holds_samples_or_tables_of_one_shape() -> None:
    values = {"samples": (), "values": ((0.5, 1.0),), "standard_errors": ((0.1, 0.0),)}
    assert JobResult(**result(**values)).values == ((0.5, 1.0),)
    for wrong in (
        {"samples": ()},
        values | {"samples": result()["samples"]},
        values | {"standard_errors": ((0.1,),)},
        values | {"standard_errors": ()},
        values | {"raw_values": ((0.1, 0.2), (0.1, 0.2))},
        {"standard_errors": ((0.1,),)},
    ):
        with pytest.raises(ValidationError, match=r"samples|tables"):
            JobResult(**result(**wrong))


@pytest.mark.parametrize("field", ALGORITHM)
def test_everything_in_the_algorithm_makes_another_job(field: str) -> None:
    changed = envelope(algorithm=Algorithm(**{field: ALGORITHM[field]}))
    assert changed.digest != envelope().digest
    assert changed.idempotency_key != envelope().idempotency_key


@settings(max_examples=30, deadline=None)
@given(
    purpose=st.text(max_size=20),
    seed=st.integers(0, 2**32 - 1),
    cost=st.floats(0, 1e300),
    lengths=st.lists(st.floats(-1e300, 1e300), max_size=4),
    tags=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
)
def test_the_digest_survives_storage_and_the_order_of_keys(
    purpose: str, seed: int, cost: float, lengths: list[float], tags: dict[str, str]
) -> None:
    algorithm = Algorithm(seed=seed, ramp_lengths=tuple(lengths))
    made = envelope(purpose=purpose, algorithm=algorithm, cost_ceiling=cost, tags=tags)
    again = JobEnvelope.model_validate_json(made.model_dump_json())
    assert again == made
    assert again.digest == made.digest
    assert again.idempotency_key == made.idempotency_key
    assert envelope(**made.model_dump() | {"tags": dict(reversed(tags.items()))}).digest == made.digest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(json_values, json_values)
def test_canonical_json_is_json_and_tells_documents_apart(one: Any, other: Any) -> None:
    assert json.loads(canonical_json(one)) == one
    assert (canonical_json(one) == canonical_json(other)) == (digest_of(one) == digest_of(other))
    assert canonical_json({"b": one, "a": other}) == canonical_json({"a": other, "b": one})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know_are_refused_everywhere(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": number})
    with pytest.raises(ValidationError):
        envelope(cost_ceiling=number)
    with pytest.raises(ValidationError):
        Algorithm(ramp_lengths=(number,))
    with pytest.raises(ValidationError):
        SampleCount(bits="0", energy=number, count=1)
    with pytest.raises(ValidationError):
        JobResult(**result(actual_cost=number))


def test_documents_are_frozen_and_know_no_other_field_or_schema() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        envelope().backend = "aer-noisy"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        envelope(best_known=7.0)
    with pytest.raises(ValidationError):
        envelope(schema_version="1")
    stored = json.loads(envelope().model_dump_json()) | {"schema_version": "0"}
    with pytest.raises(ValidationError):
        JobEnvelope.model_validate(stored)


@pytest.mark.parametrize(
    "wrong", [{"queue": 0.0}, {"execution": -1.0}, {"total": 59.0}, {"queue": 121.0}, {"total": math.nan}]
)
def test_a_timeout_budget_holds_together(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TimeoutBudget(**wrong)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shots": 5}, "add up to shots"),
        ({"samples": ()}, "either samples or values"),
        ({"width": 3}, "one bit per variable"),
        ({"samples": (SampleCount(bits="0x", energy=0.0, count=4),)}, "one bit per variable"),
        ({"samples": (SampleCount(bits="01", energy=0.0, count=2),) * 2}, "listed once"),
        ({"evidence_class": "quantum"}, "evidence_class"),
        ({"confidence": 1.0}, "Extra inputs"),
    ],
)
def test_an_incoherent_result_is_refused(change: dict[str, Any], said: str) -> None:
    JobResult(**result())
    with pytest.raises(ValidationError, match=said):
        JobResult(**result(**change))


def test_a_result_survives_storage() -> None:
    made = JobResult(**result(calibration={"t1": [1.5]}, run_energies=(0.1, -0.2)))
    assert JobResult.model_validate_json(made.model_dump_json()) == made


def test_only_quantum_classes_are_quantum() -> None:
    assert {c for c in EvidenceClass if c.is_quantum} == {"hardware", "emulator", "simulator"}
