"""Stage 4: one immutable envelope, submitted; the row keeps its digest and the job id, the ledger keeps the rest.

No automation condition, ever: a job is sent because somebody (or a sensor on somebody's file) asked for it.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from hybrid_assets.assets.envelopes import maker
from hybrid_assets.assets.reading import instance_in, prepared_in
from hybrid_assets.assets.stage import QUANTUM, failure, stage, stored
from hybrid_assets.assets.stand_ins import stopped_job
from hybrid_assets.checks import CheckContext
from hybrid_assets.line import BATCH
from resources.backends.base import Estimate
from resources.device_price import expected
from resources.dispatcher import WITHOUT_RESULT, Dispatcher, JobFailed
from resources.environments import Settings
from resources.failures import HybridError
from resources.lake import Lake

#: Seconds a job of a batch waits for the others; after that whoever looks at open jobs sends it.
HOLD_SECONDS = 600.0


@stage(
    "quantum_jobs",
    deps=["normalized_inputs", "encoded_problems"],
    code_version="1",
    kinds={"qiskit"},
    pool=QUANTUM,
    description="The job envelope (frozen, hashed, stored) and its submission. Simulators answer inside the run; "
    "states and timings live in the ledger.",
)
def quantum_jobs(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    dispatcher: dg.ResourceParam[Dispatcher],
    settings: dg.ResourceParam[Settings],
) -> Iterator[Any]:
    """Write the intent and submit the first round's job."""
    normalized_inputs = lake.partition("normalized_inputs", context.partition_key)
    encoded_problems = lake.partition("encoded_problems", context.partition_key)
    try:
        family, instance, resolved = instance_in(normalized_inputs, dispatcher.artifacts)
        prepared, walking = prepared_in(encoded_problems, family, instance, dispatcher.artifacts)
        plan = walking.plan if walking else None
        make = maker(context, family, instance, resolved, settings, dispatcher, plan)
        envelope = make(prepared=prepared, payload_ref=encoded_problems["payload_ref"].iloc[0])
        estimate = expected(dispatcher, envelope)
        if BATCH in context.run.tags and dispatcher.is_remote(envelope.backend):
            # goes out with the rest of its batch, as one submission
            job = dispatcher.intend(envelope, HOLD_SECONDS)
        else:
            job = dispatcher.submit(envelope)
        if job.state in WITHOUT_RESULT and stopped_job(envelope, dispatcher) is None:
            raise JobFailed(job)
    except HybridError as error:
        raise failure(error) from None
    row = {
        "instance": context.partition_key,
        "family": family.name,
        "envelope_digest": envelope.digest,
        "job_id": job.job_id,
        **estimated(estimate),
    }
    yield from stored(
        "quantum_jobs",
        [row],
        CheckContext(context.partition_key, family, instance),
        {
            "job_id": job.job_id,
            "state": job.state,
            "backend": job.backend,
            "envelope": dg.MetadataValue.json(envelope.model_dump(mode="json")),
            "idempotency_key": envelope.idempotency_key,
            **{name: value for name, value in estimated(estimate).items() if value is not None},
        },
    )


def estimated(estimate: Estimate | None) -> dict[str, float | str | None]:
    """What the job was expected to be and to take on a device, by column; null where nobody can say."""
    circuit = estimate is not None and estimate.depth > 0
    return {
        "coupling_map": estimate.coupling_map if estimate and estimate.device_seconds is not None else None,
        "estimated_logical_two_qubit_gates": float(estimate.logical_two_qubit_gates) if estimate and circuit else None,
        "estimated_logical_depth": float(estimate.logical_depth) if estimate and circuit else None,
        "estimated_two_qubit_gates": float(estimate.two_qubit_gates) if estimate and circuit else None,
        "estimated_depth": float(estimate.depth) if estimate and circuit else None,
        "device_seconds": estimate.device_seconds if estimate else None,
        "device_cost": estimate.device_cost if estimate else None,
        "device_priced_as": estimate.priced_as if estimate else None,
    }
