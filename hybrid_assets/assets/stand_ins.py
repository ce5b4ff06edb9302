"""Jobs that somebody has stopped: the classical heuristic answers in their place, as a job of its own.

Here: the envelope of such a stand-in, and the way that led to a result. Not here: stopping (``resources.dispatcher``),
or backends that fail by themselves (``resources.fallback``).

A rejected or cancelled job keeps its state for ever, so without a stand-in its instance would never be decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resources.delivery import as_sent
from resources.dispatcher import Dispatcher
from resources.envelope import LEFT_OUT, JobEnvelope
from resources.failures import InvariantError
from resources.ledger_tables import Job

#: Who answers.
HEURISTIC = "heuristic"
#: States of a job that somebody has stopped.
STOPPED = ("cancelled", "rejected")
#: Envelope tag: the job that was stopped.
STANDS_IN = "stands_in_for"


def with_stand_ins(make: Callable[..., JobEnvelope], dispatcher: Dispatcher) -> Callable[..., JobEnvelope]:
    """``make``, but from the first job that was stopped on the heuristic's envelopes: who stopped one job of an
    instance does not want its next one sent."""
    stopped: list[Job] = []

    def made(**of_round: object) -> JobEnvelope:
        envelope = make(**of_round)
        if not stopped and (job := stopped_job(envelope, dispatcher)) is not None:
            stopped.append(job)
        return _stand_in(envelope, stopped[0], dispatcher) if stopped else envelope

    return made


def stopped_job(envelope: JobEnvelope, dispatcher: Dispatcher) -> Job | None:
    """The job of this envelope where somebody has stopped it and the heuristic can answer instead."""
    if HEURISTIC not in dispatcher.backend_names:
        return None
    try:
        job = dispatcher.ledger.job(dispatcher.job_id(envelope))
    except InvariantError:
        return None
    return job if job.state in STOPPED else None


def _stand_in(envelope: JobEnvelope, stopped: Job, dispatcher: Dispatcher) -> JobEnvelope:
    classical = as_sent(dispatcher.backend(HEURISTIC), envelope)
    changes = {
        "backend": HEURISTIC,
        "fallback": (),
        # it costs nothing, leaves nothing and is no quantum job: nobody is asked a second time
        "impact": "routine",
        "tags": {**envelope.tags, STANDS_IN: stopped.job_id},
    }
    return JobEnvelope.model_validate(classical.model_dump() | changes)


def way_to(job_ids: Iterable[str], dispatcher: Dispatcher) -> list[str]:
    """Every backend that was left on the way to these jobs' results, with the reason; who stopped a job is one."""
    steps: list[str] = []
    for job_id in job_ids:
        stopped = dispatcher.envelope(dispatcher.ledger.job(job_id)).tags.get(STANDS_IN)
        if stopped is not None:
            job = dispatcher.ledger.job(stopped)
            why = (job.error or "").partition(": ")[2] or job.state
            step = f"left {job.backend} for {HEURISTIC}: {stopped} was {why}"
            # all later jobs stand in for the first one that was stopped
            steps += [] if step in steps else [step]
        result = dispatcher.stored_result(job_id)
        steps += [f"left {hop.backend} for {hop.next_backend}: {hop.reason}" for hop in result.fallback_path]
        if without := result.parameters.get(LEFT_OUT):
            steps.append(f"{result.backend} ran without the {', '.join(without)} that was asked for")
    return steps
