"""Tables of stage 10: snapshots of the ledger and of Dagster's event log, overwritten whole.

Here: columns and their descriptions. Not here: how the snapshot is taken. A fresh platform has none of these rows, so
all of them may be empty.
"""

from __future__ import annotations

from pandera.pandas import Column, DataFrameSchema

from hybrid_assets.contracts.columns import flag, integer, json_text, moment, real, share, text
from hybrid_assets.contracts.stages import EVIDENCE, POST_PROCESSING
from resources.envelope import KINDS

TRUTH = ("true", "false")


def _snapshot(name: str, description: str, key: list[str] | None, columns: dict[str, Column]) -> DataFrameSchema:
    return DataFrameSchema(
        columns, name=name, description=description, unique=key, strict=True, metadata={"may_be_empty": True}
    )


control_jobs = _snapshot(
    "control_jobs",
    "The ledger's jobs with what their results report.",
    ["job_id"],
    {
        # a column that is added goes to the end and may be null in storage, so that an older lake can be extended
        "job_id": text("The job's id in the ledger."),
        "instance": text("Key of the instance."),
        "family": text("Problem family."),
        "envelope_digest": text("Digest of the job's envelope."),
        "idempotency_key": text("What counts as the same job."),
        "correlation_id": text("The business request."),
        "backend": text("Backend that has or had the job."),
        "evidence_class": text("Evidence class of the result.", nullable=True, one_of=EVIDENCE),
        "state": text("State of the job."),
        "created_at": moment("When the intent was written."),
        "updated_at": moment("When the state last changed."),
        "queue_seconds": real("Seconds in the queue.", nullable=True, at_least=0.0),
        "compile_seconds": real("Seconds of compilation.", nullable=True, at_least=0.0),
        "execute_seconds": real("Seconds of execution.", nullable=True, at_least=0.0),
        "post_process_seconds": real("Seconds of read-out.", nullable=True, at_least=0.0),
        "total_seconds": real("Seconds the caller saw.", nullable=True, at_least=0.0),
        "shots": real("Shots of the result.", nullable=True, at_least=0.0),
        "tuning_shots": real("Shots spent on choosing parameters.", nullable=True, at_least=0.0),
        "circuits": real("Circuits run.", nullable=True, at_least=0.0),
        "width": real("Qubits or spins.", nullable=True, at_least=0.0),
        "depth": real("Circuit depth.", nullable=True, at_least=0.0),
        "two_qubit_gates": real("Two-qubit gates of the circuit.", nullable=True, at_least=0.0),
        "estimated_cost": real("Cost expected before the job was sent.", nullable=True, at_least=0.0),
        "actual_cost": real("Cost of the job over all its submissions.", nullable=True, at_least=0.0),
        "attempts": integer("How often it was sent."),
        "fallback_path": json_text("Backends that were left, for whom and why."),
        "parameters": json_text("Parameters the result reports."),
        "sdk_versions": json_text("Versions of the software that ran it."),
        "calibration": json_text("Calibration snapshot of the machine; null for an ideal one."),
        "error": text("Why the job failed.", nullable=True),
        "owner": text("Who answers for the job and pays for it.", nullable=True),
        "priority": integer("Higher goes first.", at_least=None, added=True),
        "hop": integer("Position of the backend in the job's way; 0 is the one first chosen.", added=True),
        "cached": flag("Whether an earlier result of the same problem answered.", added=True),
        "policy_version": text("Version of the routing policy that chose the way.", nullable=True),
        "replay_of": text("Digest of the envelope that this job repeats.", nullable=True),
        "resubmissions": integer("Submissions after the provider definitely did not have the job.", added=True),
        "sent_at": moment("When the current backend was given the job.", nullable=True),
        "started_at": moment("When it was first seen running there.", nullable=True),
        "ended_at": moment("When the job ended.", nullable=True),
        "backend_version": text("Version of the backend that answered.", nullable=True),
        "logical_depth": real("Depth before the circuit was fitted to the device.", nullable=True, at_least=0.0),
        "logical_two_qubit_gates": real("Two-qubit gates before that.", nullable=True, at_least=0.0),
        "layout": json_text("Physical qubit of each variable; null without a topology.", nullable=True),
        "success_probability": share(
            "Estimated success probability of the circuit: product of gate and read-out fidelities and idle decay.",
            nullable=True,
        ),
        "noise_dominated": flag("Whether that is below 0.05; false where it is unknown.", added=True),
        "expectation_raw": real("Mean energy of the final circuit as sampled.", nullable=True),
        "expectation_mitigated": real("Mean energy after read-out mitigation.", nullable=True),
        "discarded_shots": real("Shots that post-selection dropped; they are charged.", nullable=True, at_least=0.0),
    },
)

control_job_events = _snapshot(
    "control_job_events",
    "Every state change of every job.",
    ["job_id", "sequence"],
    {
        "job_id": text("The job's id in the ledger."),
        "sequence": integer("Position in the job's history."),
        "state": text("State that was reached."),
        "at": moment("When."),
        "detail": text("What happened."),
    },
)

control_values = _snapshot(
    "control_values",
    "Expectation values and overlaps of estimate and kernel jobs.",
    ["job_id", "row_index", "column_index"],
    {
        "job_id": text("The job's id in the ledger."),
        "kind": text(
            "What its values are: of observables (estimate), or overlaps of states (kernel).", one_of=KINDS[1:]
        ),
        "row_index": integer("Row of the program, from 0.", at_least=0),
        "column_index": integer("Observable, or the row it is compared with, from 0.", at_least=0),
        "value": real("Expectation value, or overlap of the two states."),
        "standard_error": real("Standard error of the value, from the scatter of the shots alone.", at_least=0.0),
        "raw_value": real("Value before read-out mitigation; null without any.", nullable=True),
        "post_processing": text("What was done to the value classically.", one_of=POST_PROCESSING),
    },
)

control_materializations = _snapshot(
    "control_materializations",
    "Dagster's materializations and asset checks of the stages.",
    None,
    {
        "asset": text("Asset, as its key reads."),
        "instance": text("Partition; null for an unpartitioned asset.", nullable=True),
        "family": text("Problem family of the partition.", nullable=True),
        "run_id": text("Dagster run."),
        "at": moment("When."),
        "data_version": text("Data version of the materialization.", nullable=True),
        "code_version": text("Code version of the asset.", nullable=True),
        "event": text("What the row is.", one_of=("materialization", "check")),
        "check_name": text("Name of the check.", nullable=True),
        "passed": text("Whether the check passed.", nullable=True, one_of=TRUTH),
        "blocking": text("Whether the check blocks downstream work.", nullable=True, one_of=TRUTH),
    },
)

#: Texts as they were hashed, whatever is in them: an altered row must be shown, not refused.
control_audit = _snapshot(
    "control_audit",
    "The audit log: every decision of the control plane, chained by digests.",
    ["sequence"],
    {
        "sequence": integer("Position in the log, from 1.", at_least=1),
        "at": text("When, ISO 8601."),
        "actor": text("Who decided: a person or a process of the platform."),
        "action": text("What was decided."),
        "job_id": text("Job it was decided about.", nullable=True),
        "subject": text("Backend, owner or other thing it was decided about."),
        "reason": text("Why, in a sentence."),
        "policy_version": text("Version of the policy that said so."),
        "detail": text("Further facts, as JSON."),
        "previous": text("Digest of the row before."),
        "digest": text("SHA-256 of this row's fields and of the digest before it."),
        "verified": flag("Whether the row had its digest and followed the row before at the snapshot."),
    },
)
