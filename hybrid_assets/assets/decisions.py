"""Stage 9: what the platform answers, with the reason and the whole path."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np

from hybrid_assets import plots
from hybrid_assets.assets.envelopes import correlation_id
from hybrid_assets.assets.reading import instance_in, records
from hybrid_assets.assets.stage import picture, stage, stored
from hybrid_assets.assets.stand_ins import way_to
from hybrid_assets.checks import CheckContext
from hybrid_assets.evidence.decision import decide
from resources.dispatcher import Dispatcher
from resources.environments import Settings
from resources.lake import Lake


@stage(
    "decisions",
    deps=[
        "normalized_inputs",
        "quantum_jobs",
        "quantum_samples",
        "scored_candidates",
        "baseline_runs",
        "baseline_comparisons",
    ],
    code_version="1",
    kinds={"python"},
    description="The accepted candidate, the classical fallback, or a review, with one sentence of reason, the path "
    "that led there, and the evidence class of the answer.",
)
def decisions(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    dispatcher: dg.ResourceParam[Dispatcher],
    settings: dg.ResourceParam[Settings],
) -> Iterator[Any]:
    """Decide about this partition."""
    normalized_inputs = lake.partition("normalized_inputs", context.partition_key)
    quantum_jobs = lake.partition("quantum_jobs", context.partition_key)
    quantum_samples = lake.partition("quantum_samples", context.partition_key)
    scored_candidates = lake.partition("scored_candidates", context.partition_key)
    baseline_runs = lake.partition("baseline_runs", context.partition_key)
    baseline_comparisons = lake.partition("baseline_comparisons", context.partition_key)
    family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
    current = str(quantum_jobs["envelope_digest"].iloc[0])
    hops = way_to(quantum_samples["job_id"].unique(), dispatcher)
    decision = decide(
        records(baseline_comparisons)[0],
        records(scored_candidates),
        records(baseline_runs),
        hops=hops,
        tolerance=family.tolerance,
    )
    sampling = float(quantum_samples.drop_duplicates("job_id")["seconds"].sum())
    arm = scored_candidates[scored_candidates["arm"] != "random_control"]
    phases = {
        "sampling": sampling,
        "scoring": max(0.0, float(arm["seconds"].max()) - sampling),
        "control": float(scored_candidates.loc[scored_candidates["arm"] == "random_control", "seconds"].max()),
        **{f"baseline {run['solver']}": float(run["seconds"]) for run in records(baseline_runs)},
    }
    row = {
        "instance": context.partition_key,
        "family": family.name,
        "envelope_digest": current,
        "input_digest": instance.digest,
        **decision,
        "path": json.dumps(decision["path"]),
        "seconds": sum(phases.values()),
        "seconds_by_phase": json.dumps(phases),
        "correlation_id": correlation_id(context),
        "environment": settings.environment,
        "owner": resolved.owner,
        "decided_at": datetime.now(UTC),
    }
    arms = {
        "quantum": scored_candidates[scored_candidates["arm"] == "quantum"],
        "surrogate": scored_candidates[scored_candidates["arm"] == "surrogate"],
        "classical": baseline_runs,
    }
    chosen = plots.best_values(arms, instance.sense)
    if row["values"] is not None:
        accepted = np.array(json.loads(row["values"]), dtype=float)
        # an arm that found the accepted answer itself needs no picture of its own
        chosen = {"accepted": accepted, **{k: v for k, v in chosen.items() if not np.allclose(v, accepted)}}
    yield from stored(
        "decisions",
        [row],
        CheckContext(context.partition_key, family, instance, envelope_digest=current),
        {
            "decision": row["decision"],
            "reason": row["reason"],
            "path": dg.MetadataValue.md("\n".join(f"1. {step}" for step in decision["path"])),
            "evidence_class": row["evidence_class"],
            **({"objective": float(row["objective"])} if row["objective"] is not None else {}),
            "seconds": row["seconds"],
            "picture": picture(family.plot_solution(instance, chosen)),
        },
    )
