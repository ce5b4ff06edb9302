"""Small valid rows of every table, for tests and benchmarks of storage and marts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def rows(table: str, instance: str = "maxcut.tiny", **changed: Any) -> list[dict[str, Any]]:
    """The rows of one instance (two where a table holds several), with ``changed`` columns in all of them."""
    found = _ROWS[table]
    family, name = instance.split(".", 1)
    own = {"instance": instance, "family": family}
    tied = {
        "input_digest": f"input-{name}",
        "encoding_digest": f"encoding-{name}",
        "envelope_digest": f"envelope-{name}",
        "round_digest": f"envelope-{name}",
        "job_id": f"job-{name}",
        "data_version": "v1",
    }
    result = []
    for row in found:
        row = {**row, **{k: v for k, v in {**own, **tied}.items() if k in row}, **changed}
        result.append(row)
    return result


_ID = {"instance": "", "family": "", "data_version": ""}
_INTERVAL = {"confidence": 0.9, "confidence_low": 0.8, "confidence_high": 0.95}
_SAMPLE = {
    **_ID, "envelope_digest": "", "round": 0, "repetition": 0, "round_digest": "", "job_id": "", "rank": 1,
    "bits": "0101", "energy": -4.0, "count": 60, "shots": 100, "seconds": 0.3, "backend": "aer",
    "evidence_class": "simulator", "cached": False,
}  # fmt: skip
_CANDIDATE = {
    **_ID, "envelope_digest": "", "arm": "quantum", "round": 0, "rank": 1, "values": "[0,1,0,1]", "objective": 4.0,
    "feasible": True, "violations": "{}", "count": 60, "shots": 100, "seconds": 0.4, "tolerance": 0.0,
    "hits": 60, "p": 0.6, "p_low": 0.5, "p_high": 0.7, **_INTERVAL, "confidence_unit": "shots",
    "evidence_class": "simulator", "post_processing": "raw", "narrowed": False, "backend": "aer",
    "feasible_mass": 0.75, "leakage": None,
}  # fmt: skip
_JOB = {
    "job_id": "", "instance": "", "family": "", "envelope_digest": "", "idempotency_key": "key", "correlation_id": "c",
    "backend": "aer", "evidence_class": "simulator", "state": "succeeded", "created_at": NOW, "updated_at": NOW,
    "queue_seconds": 0.0, "compile_seconds": 0.1, "execute_seconds": 0.2, "post_process_seconds": 0.0,
    "total_seconds": 0.3, "shots": 100.0, "tuning_shots": 20.0, "circuits": 2.0, "width": 4.0, "depth": 9.0,
    "two_qubit_gates": 8.0, "estimated_cost": 0.0, "actual_cost": 0.0, "attempts": 1, "fallback_path": "[]",
    "parameters": "{}", "sdk_versions": "{}", "calibration": "null", "error": None,
    "owner": "team", "priority": 0, "hop": 0, "cached": False, "policy_version": "dev-1", "replay_of": None,
    "resubmissions": 0, "sent_at": NOW, "started_at": None, "ended_at": NOW, "backend_version": "1",
    "logical_depth": 5.0, "logical_two_qubit_gates": 4.0, "layout": "[0,1,2,3]", "success_probability": 0.5,
    "noise_dominated": False, "expectation_raw": -2.0, "expectation_mitigated": None, "discarded_shots": 0.0,
}  # fmt: skip

_ROWS: dict[str, list[dict[str, Any]]] = {
    "normalized_inputs": [{
        **_ID, "name": "tiny", "source_file": "tiny.txt", "source_digest": "source", "member": 0, "size": 4,
        "sense": "max", "input_digest": "", "payload_ref": "ref", "owner": "team", "sensitivity": "public",
        "deadline": None, "best_known": 4.0, "best_known_source": "by hand", "options": "{}", "constraints": "{}",
        "notes": "[]", "environment": "dev",
    }],
    "encoded_problems": [{
        **_ID, "input_digest": "", "encoding": "penalty", "encoding_version": "1", "exact": True,
        "encoding_digest": "", "payload_ref": "ref", "program_form": "cut", "program_digest": "p",
        "program_variables": 4, "encoded_variables": 4, "interactions": 4, "density": 2 / 3, "offset": 0.0,
        "coefficient_range": 2.0, "narrowed": False, "narrowing": "{}", "kept_variables": 4, "penalty_weight": None,
        "penalty_verdict": "not needed", "penalty_evidence": "no constraints", "round_trips": 16,
        "feasible_share": 1.0, "discretisation_error": 0.0, "auxiliary_variables": 0, "native_terms": 4,
        "preparation_depth": None,
    }],
    "quantum_jobs": [
        {
            **_ID,
            "envelope_digest": "",
            "job_id": "",
            "coupling_map": "heavy-hex",
            "estimated_logical_two_qubit_gates": 30.0,
            "estimated_logical_depth": 15.0,
            "estimated_two_qubit_gates": 90.0,
            "estimated_depth": 63.0,
            "device_seconds": 2.3,
            "device_cost": 3.6,
            "device_priced_as": "ibm, USD",
        }
    ],
    "quantum_samples": [_SAMPLE, {**_SAMPLE, "rank": 2, "bits": "0001", "energy": -2.0, "count": 40}],
    "scored_candidates": [
        _CANDIDATE,
        {**_CANDIDATE, "arm": "random_control", "values": "[0,0,0,1]", "objective": 2.0,
         "evidence_class": "classical", "backend": "random"},
    ],
    "baseline_runs": [{
        **_ID, "input_digest": "", "solver": "greedy", "solver_version": "1", "seed": 0, "budget_seconds": 1.0,
        "seconds": 0.1, "time_to_best": 0.05, "status": "feasible", "objective": 4.0, "bound": None,
        "values": "[0,1,0,1]", "trajectory": "[[0.05,4.0]]", "threads": 1, "evaluations": 10, "feasible": True,
        "evidence_class": "classical",
    }],
    "baseline_comparisons": [{
        **_ID, "envelope_digest": "", "sense": "max", "best_quantum": 4.0, "best_quantum_raw": 4.0,
        "quantum_backend": "aer", "quantum_evidence_class": "simulator", "best_surrogate": None, "best_random": 2.0,
        "random_mean": 1.5, "best_classical": 4.0, "best_classical_solver": "greedy", "bound": None,
        "best_known": 4.0, "reference": 4.0, "reference_kind": "best known", "quantum_gap": 0.0,
        "classical_gap": 0.0, "surrogate_gap": None, "random_gap": 0.5, "gap_definition": "(r - x) / |r|",
        "quantum_lift": 0.5, "winner": "tie", "quantum_seconds": 0.3, "classical_seconds": 0.1,
        "budget_seconds": 1.0,
    }],
    "decisions": [{
        **_ID, "envelope_digest": "", "input_digest": "", "decision": "accepted", "reason": "as good as the best",
        "path": "[]", "source": "quantum", "evidence_class": "simulator", "post_processing": "raw",
        "solver_or_backend": "aer", "objective": 4.0, "sense": "max", "feasible": True, "values": "[0,1,0,1]",
        **_INTERVAL, "bound": None, "gap": 0.0, "seconds": 0.5, "seconds_by_phase": "{}", "correlation_id": "c",
        "environment": "dev", "owner": "team", "decided_at": NOW,
    }],
    "control_jobs": [_JOB],
    "control_job_events": [
        {"job_id": "", "sequence": 1, "state": "intended", "at": NOW, "detail": ""},
        {"job_id": "", "sequence": 2, "state": "succeeded", "at": NOW, "detail": "result"},
    ],
    "control_values": [
        {"job_id": "", "kind": "estimate", "row_index": 0, "column_index": 1, "value": 0.5, "standard_error": 0.1,
         "raw_value": 0.4, "post_processing": "mitigated"},
    ],
    "control_materializations": [
        {"asset": "decisions", "instance": "", "family": "", "run_id": "run", "at": NOW, "data_version": "v1",
         "code_version": "1", "event": "materialization", "check_name": None, "passed": None, "blocking": None},
        {"asset": "decisions", "instance": "", "family": "", "run_id": "run", "at": NOW, "data_version": None,
         "code_version": None, "event": "check", "check_name": "contract", "passed": "true", "blocking": "true"},
    ],
    "control_audit": [{
        "sequence": 1, "at": NOW.isoformat(), "actor": "reconciler", "action": "submit", "job_id": "",
        "subject": "aer", "reason": "position 1 of aer, heuristic", "policy_version": "dev-1", "detail": "{}",
        "previous": "0" * 64, "digest": "digest-1", "verified": True,
    }],
}  # fmt: skip
