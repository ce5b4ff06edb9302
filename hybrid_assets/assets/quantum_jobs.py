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
        },
    )
