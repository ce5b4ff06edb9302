"""Tables of stages 2 to 9, in the order of the story: one pandera schema each.

Here: columns, their descriptions, keys and the rules between columns. Not here: how frames are filled (assets) or
stored (``resources.lake``).
"""

from __future__ import annotations

import pandas as pd
from pandera.pandas import Check, Column, DataFrameSchema

from hybrid_assets.contracts.columns import flag, identity, integer, json_text, moment, real, share, text, version
from resources.envelope import EvidenceClass, PostProcessing

SENSE = ("min", "max")
EVIDENCE = tuple(e.value for e in EvidenceClass)
QUANTUM = tuple(e.value for e in EvidenceClass if e.is_quantum)
#: ``fallback``: what a classical heuristic at the end of a fallback chain answered in the place of a quantum job.
ARMS = ("quantum", "surrogate", "fallback", "random_control")
POST_PROCESSING = tuple(p.value for p in PostProcessing)


def _table(
    name: str,
    description: str,
    key: list[str],
    columns: dict[str, Column],
    rules: list[Check] | None = None,
    gained: dict[str, Column] | None = None,
) -> DataFrameSchema:
    """The schema; ``gained`` columns came later and stand last, where stored tables get them."""
    return DataFrameSchema(
        {**identity(), **columns, **version(), **(gained or {})},
        checks=rules,
        name=name,
        description=description,
        unique=key,
        strict=True,
    )


def _evidence_agrees(column: str, allowed: dict[str, tuple[str, ...]]) -> Check:
    """Rule: the evidence class is one that the value of ``column`` admits."""

    def rule(frame: pd.DataFrame) -> pd.Series:
        pairs = {(value, evidence) for value, classes in allowed.items() for evidence in classes}
        found = zip(frame[column], frame["evidence_class"], strict=True)
        return pd.Series([pair in pairs for pair in found], index=frame.index)

    words = "; ".join(f"{value}: {', '.join(classes)}" for value, classes in allowed.items())
    return Check(rule, error=f"evidence_class must agree with {column} ({words})")


def _between(low: str, middle: str, high: str) -> Check:
    """Rule: an estimate lies inside its own interval."""

    def rule(frame: pd.DataFrame) -> pd.Series:
        slack = 1e-9
        return (frame[low] <= frame[middle] + slack) & (frame[middle] <= frame[high] + slack)

    return Check(rule, error=f"{middle} must lie between {low} and {high}")


normalized_inputs = _table(
    "normalized_inputs",
    "Validated, typed and scaled instances: one row per instance.",
    ["instance"],
    {
        "name": text("Short name for people."),
        "source_file": text("File the instance was read from, without folders."),
        "source_digest": text("SHA-256 of that file as it lay on disk."),
        "member": integer("Position in a file of several instances, from 1; 0 when the file holds one."),
        "size": integer("Number of decision variables.", at_least=1),
        "sense": text("Whether the objective is minimized or maximized.", one_of=SENSE),
        "input_digest": text("SHA-256 of the normalized content."),
        "payload_ref": text("Artefact that holds the normalized instance."),
        "owner": text("Who answers for the instance."),
        "sensitivity": text("Class of the data.", one_of=("public", "internal", "confidential")),
        "deadline": text("When the answer is needed, as given by the user.", nullable=True),
        "best_known": real("Best objective known, given by the user; used in comparisons only.", nullable=True),
        "best_known_source": text("Where the best known value comes from.", nullable=True),
        "options": json_text("Options in force."),
        "constraints": json_text("Constraints extracted from the input."),
        "notes": json_text("What normalization found and did, a list of sentences."),
        "environment": text("Environment that normalized the instance."),
    },
)

encoded_problems = _table(
    "encoded_problems",
    "The mathematical program and its quantum-ready form with the encoding audit: one row per instance.",
    ["instance"],
    {
        "input_digest": text("Normalized content that was encoded."),
        "encoding": text("Registered name of the encoding."),
        "encoding_version": text("Version of the encoding."),
        "exact": flag("Whether the encoding preserves the optimum of the program."),
        "encoding_digest": text("SHA-256 of payload, encoding and version."),
        "payload_ref": text("Artefact that holds the encoded model."),
        "program_form": text("Name of the mathematical model."),
        "program_digest": text("SHA-256 of the program."),
        "program_variables": integer("Variables of the program.", at_least=1),
        "encoded_variables": integer("Variables of the encoded model.", at_least=1),
        "interactions": integer("Quadratic terms of the encoded model."),
        "density": share("Quadratic terms as a share of all pairs."),
        "offset": real("Constant of the encoded model."),
        "coefficient_range": real("Largest over smallest non-zero absolute coefficient.", at_least=0.0),
        "narrowed": flag("Whether variables were fixed classically to meet the qubit budget."),
        "narrowing": json_text("How the instance was narrowed; {} if it was not."),
        "kept_variables": integer("Program variables left to the quantum side.", at_least=1),
        "penalty_weight": real("Weight of constraint violations; null without constraints.", nullable=True),
        "penalty_verdict": text(
            "Whether an infeasible state can undercut every feasible one.",
            one_of=("proven", "no counter-example", "refuted", "not needed"),
        ),
        "penalty_evidence": text("How the verdict was reached."),
        "round_trips": integer("Random assignments for which encode and decode were checked."),
        "feasible_share": share("Share of uniformly random states that satisfy all constraints."),
    },
    gained={
        "discretisation_error": real(
            "The most that rounding takes from a constraint, in its own units; 0 where nothing is lost.",
            nullable=True,
            at_least=0.0,
        ),
        "auxiliary_variables": integer(
            "Variables of the encoded model beyond the program's; negative where it has fewer.",
            at_least=None,
            added=True,
        ),
        "native_terms": integer("Terms of degree 2 and more of the program itself.", added=True),
        "preparation_depth": real(
            "Layers of two-qubit gates that prepare the start state of the groups; null without groups.",
            nullable=True,
            at_least=0.0,
        ),
    },
)

quantum_jobs = _table(
    "quantum_jobs",
    "The immutable envelope submitted for an instance; its mutable state is in control_jobs.",
    ["instance"],
    {
        "envelope_digest": text("Digest of the envelope of round 0: what the job is."),
        "job_id": text("The job's id in the ledger."),
    },
    gained={
        # worst case of the job's size, before anything is sent; null where the backend gives no estimate
        "coupling_map": text("Coupling map that the estimate is routed on; full: every pair.", nullable=True),
        "estimated_logical_two_qubit_gates": real(
            "Two-qubit gates before routing, estimated.", nullable=True, at_least=0.0
        ),
        "estimated_logical_depth": real("Depth before routing, estimated.", nullable=True, at_least=0.0),
        "estimated_two_qubit_gates": real("Two-qubit gates as routed, estimated.", nullable=True, at_least=0.0),
        "estimated_depth": real("Depth as routed, estimated.", nullable=True, at_least=0.0),
        "device_seconds": real("Seconds that a device would take for it, estimated.", nullable=True, at_least=0.0),
        "device_cost": real("What it would cost there, by the policy's price list.", nullable=True, at_least=0.0),
        "device_priced_as": text("Device whose price that is, and the currency.", nullable=True),
    },
)

quantum_samples = _table(
    "quantum_samples",
    "Reconciled read-outs: one row per distinct bit string of each round.",
    ["instance", "round_digest", "rank"],
    {
        "envelope_digest": text("Envelope of round 0, the current job."),
        "round": integer("Round of the job, from 0."),
        "repetition": integer("Whole run of an iterative algorithm, from 0."),
        "round_digest": text("Envelope of this round."),
        "job_id": text("Ledger id of this round's job."),
        "rank": integer("1 is the lowest energy of the round.", at_least=1),
        "bits": text("Read-out in variable order, variable 0 first."),
        "energy": real("Energy of the encoded model, offset included."),
        "count": integer("How often it was seen.", at_least=1),
        "shots": integer("Shots of the round.", at_least=1),
        "seconds": real("Seconds the round's job took, tuning included.", at_least=0.0),
        "backend": text("Backend that answered."),
        "evidence_class": text("What kind of machine produced the row.", one_of=EVIDENCE),
        "cached": flag("Whether the result of an equal earlier job was reused."),
    },
    [Check(lambda frame: frame["count"] <= frame["shots"], error="count must not exceed shots")],
)

scored_candidates = _table(
    "scored_candidates",
    "Decoded, repaired and scored candidates, with the random control beside them.",
    ["instance", "arm", "round", "rank"],
    {
        "envelope_digest": text("Envelope of round 0, the current job."),
        "arm": text("Where the candidate comes from.", one_of=ARMS),
        "round": integer("Round of the job, from 0."),
        "rank": integer("1 is the best of its arm and round.", at_least=1),
        "values": json_text("The solution in the family's terms, a list of numbers."),
        "objective": real("Objective in the family's sense."),
        "feasible": flag("Whether all constraints hold."),
        "violations": json_text("Violated constraints and by how much."),
        "count": integer("How often its bits were read out."),
        "shots": integer("Shots of the round."),
        "seconds": real("Seconds of the whole arm: sampling, tuning and completion.", at_least=0.0),
        "tolerance": real("Objectives this close count as hits.", at_least=0.0),
        "hits": integer("Raw shots (or whole runs) within the tolerance."),
        "p": share("Hits per shot (or run)."),
        "p_low": share("Lower end of the Clopper-Pearson interval of p."),
        "p_high": share("Upper end of the Clopper-Pearson interval of p."),
        "confidence": share("Probability that a repeat with the same number of shots (or runs) reaches it again."),
        "confidence_low": share("Lower end of the interval of the confidence."),
        "confidence_high": share("Upper end of the interval of the confidence."),
        "confidence_unit": text("What was repeated: shots or whole runs.", one_of=("shots", "runs")),
        "evidence_class": text("What kind of machine produced the row.", one_of=EVIDENCE),
        "post_processing": text("What was done to the sample classically.", one_of=POST_PROCESSING),
        "narrowed": flag("Whether part of the instance was fixed classically."),
        "backend": text("Backend that answered, or the name of the control."),
    },
    [
        _evidence_agrees(
            "arm",
            {
                "quantum": QUANTUM,
                "surrogate": ("surrogate",),
                "fallback": ("classical",),
                "random_control": ("classical",),
            },
        ),
        _between("p_low", "p", "p_high"),
        _between("confidence_low", "confidence", "confidence_high"),
    ],
    gained={
        "feasible_mass": share(
            "Share of its job's raw shots that satisfy all constraints of the program, before any repair.",
            nullable=True,
        ),
        "leakage": share(
            "Share of those shots outside the groups that the sampler had to keep; null without groups.", nullable=True
        ),
    },
)

baseline_runs = _table(
    "baseline_runs",
    "Classical solvers on the same instance with the same budget: one row per solver and seed.",
    ["instance", "solver", "seed"],
    {
        "input_digest": text("Normalized content that was solved."),
        "solver": text("Registered name of the solver."),
        "solver_version": text("Version of the package that did the work."),
        "seed": integer("Seed of the run."),
        "budget_seconds": real("Wall-clock seconds it was given.", at_least=0.0),
        "seconds": real("Wall-clock seconds it took.", at_least=0.0),
        "time_to_best": real("Seconds until its best objective.", nullable=True, at_least=0.0),
        "status": text(
            "How it ended; optimal only with a proof.", one_of=("optimal", "feasible", "infeasible", "no solution")
        ),
        "objective": real("Best objective in the family's sense.", nullable=True),
        "bound": real("Proven bound on the optimum in the family's sense.", nullable=True),
        "values": json_text("Best solution, a list of numbers.", nullable=True),
        "trajectory": json_text("Improvements as a list of (seconds, objective)."),
        "threads": integer("Threads it ran on.", at_least=1),
        "evaluations": integer("Objective or sweep evaluations where known, else 0."),
        "feasible": flag("Whether its solution satisfies all constraints."),
        "evidence_class": text("Always classical.", one_of=("classical",)),
    },
)

baseline_comparisons = _table(
    "baseline_comparisons",
    "Quantum, surrogate, random and classical side by side at an equal budget: one row per instance.",
    ["instance"],
    {
        "envelope_digest": text("Envelope of round 0, the current job."),
        "sense": text("Whether the objective is minimized or maximized.", one_of=SENSE),
        "best_quantum": real("Best feasible objective of the quantum arm, after post-processing.", nullable=True),
        "best_quantum_raw": real("Best feasible objective of the quantum arm, bits untouched.", nullable=True),
        "quantum_backend": text("Backend behind best_quantum.", nullable=True),
        "quantum_evidence_class": text("Evidence class behind best_quantum.", nullable=True, one_of=QUANTUM),
        "best_surrogate": real("Best feasible objective of a classical sampler behind the seam.", nullable=True),
        "best_random": real("Best feasible objective of the random control.", nullable=True),
        "random_mean": real("Mean objective of the random control.", nullable=True),
        "best_classical": real("Best feasible objective of the baselines.", nullable=True),
        "best_classical_solver": text("Solver behind best_classical.", nullable=True),
        "bound": real("Best proven bound of the baselines.", nullable=True),
        "best_known": real("Best known objective, as given by the user.", nullable=True),
        "reference": real("What gaps are measured against.", nullable=True),
        "reference_kind": text("What the reference is.", one_of=("best known", "proven", "best found")),
        "quantum_gap": real("Relative gap of best_quantum.", nullable=True),
        "classical_gap": real("Relative gap of best_classical.", nullable=True),
        "surrogate_gap": real("Relative gap of best_surrogate.", nullable=True),
        "random_gap": real("Relative gap of best_random.", nullable=True),
        "gap_definition": text("Formula of the gaps."),
        "quantum_lift": real("Improvement of best_quantum over best_random on the gap's scale.", nullable=True),
        "winner": text("Which side was better at this budget.", one_of=("quantum", "classical", "tie", "none")),
        "quantum_seconds": real("Seconds spent by the quantum side, tuning included.", at_least=0.0),
        "classical_seconds": real("Seconds spent by the best baseline.", at_least=0.0),
        "budget_seconds": real("Seconds either side was given.", at_least=0.0),
    },
    [
        Check(
            lambda frame: frame["best_quantum"].isna() == frame["quantum_evidence_class"].isna(),
            error="best_quantum and quantum_evidence_class must be given together",
        ),
    ],
)

decisions = _table(
    "decisions",
    "What the platform answers: one row per instance.",
    ["instance"],
    {
        "envelope_digest": text("Envelope of round 0, the current job."),
        "input_digest": text("Normalized content the decision is about."),
        "decision": text("What was decided.", one_of=("accepted", "fallback", "review")),
        "reason": text("Why, in one sentence."),
        "path": json_text("Every step that led there, a list."),
        "source": text("Who found the answer.", one_of=("quantum", "hybrid", "surrogate", "classical", "none")),
        "evidence_class": text("Evidence class of the answer; none without one.", one_of=(*EVIDENCE, "none")),
        "post_processing": text("What was done to the answer classically.", one_of=POST_PROCESSING),
        "solver_or_backend": text("Solver or backend behind the answer, or none."),
        "objective": real("Objective of the answer in the family's sense.", nullable=True),
        "sense": text("Whether the objective is minimized or maximized.", one_of=SENSE),
        "feasible": flag("Whether the answer satisfies all constraints."),
        "values": json_text("The answer, a list of numbers.", nullable=True),
        "confidence": share("Probability that a repeat reaches the answer again.", nullable=True),
        "confidence_low": share("Lower end of the interval of the confidence.", nullable=True),
        "confidence_high": share("Upper end of the interval of the confidence.", nullable=True),
        "bound": real("Proven bound on the optimum.", nullable=True),
        "gap": real("Relative gap of the answer to the reference.", nullable=True),
        "seconds": real("Seconds from request to decision.", at_least=0.0),
        "seconds_by_phase": json_text("Those seconds by phase."),
        "correlation_id": text("The business request."),
        "environment": text("Environment that decided."),
        "owner": text("Who answers for the instance."),
        "decided_at": moment("When it was decided."),
    },
    [
        _evidence_agrees(
            "source",
            {
                "quantum": QUANTUM,
                "hybrid": QUANTUM,
                "surrogate": ("surrogate",),
                "classical": ("classical",),
                "none": ("none",),
            },
        ),
        Check(
            lambda frame: (frame["decision"] == "review") | (frame["feasible"] & frame["objective"].notna()),
            error="an answer that is not under review must be feasible and have an objective",
        ),
    ],
)
