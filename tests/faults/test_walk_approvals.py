"""What people approve of a walk: once for its trips, at the price of all of them, under one policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from resources.envelope import Algorithm, JobEnvelope
from resources.failures import FailureClass
from resources.ledger_tables import Job
from resources.policy import Approval, CachePolicy, Policy
from tests.faults.test_dispatcher import System

NO_CACHE = CachePolicy(window_seconds=0)


def trips(system: System, count: int, first: JobEnvelope | None = None, **changes: Any) -> list[JobEnvelope]:
    """Envelopes of a walk, each following from the one before."""
    made = [first] if first else []
    while len(made) < count:
        of_trip = {
            "algorithm": Algorithm(shots=64, seed=len(made)),
            "jobs": count,
            "round": len(made),
            "parent_digest": made[-1].digest if made else None,
        }
        made.append(system.envelope(**{**of_trip, **changes}))
    return made


def approve(system: System, job: Job) -> None:
    system.dispatcher.decide(job.job_id, "approved", by="ada", reason="fine")


def asked(system: System, walk: Sequence[JobEnvelope]) -> list[bool]:
    """For each trip, whether a person was asked; all are approved and run."""
    found = []
    for envelope in walk:
        job = system.dispatcher.submit(envelope)
        found.append(job.state == "awaiting_approval")
        if found[-1]:
            approve(system, job)
        assert system.run(envelope) is not None
    return found


@pytest.mark.parametrize("rule", [Approval(impact=("high",)), Approval(backends=("main",)), Approval(cost_above=2.5)])
def test_a_walk_is_approved_once(tmp_path: Path, either: str, rule: Approval) -> None:
    """At a cost of 1 each, no trip is above the threshold, the three of them are."""
    system = System(tmp_path, Policy(approval=rule, cache=NO_CACHE), cost=1.0)
    walk = trips(system, 3, impact="high", repetition=0)
    assert asked(system, walk) == [True, False, False]
    (question,) = system.dispatcher.approvals.history(system.dispatcher.job_id(walk[0]))
    assert question.why.endswith("the answer holds for all 3 jobs of its walk or rounds")
    if rule.cost_above:
        assert question.why.startswith("all in all it would cost about 3.00")
    # another walk is another question
    assert asked(system, trips(system, 3, impact="high", repetition=1)) == [True, False, False]


def test_an_approval_holds_where_it_was_given_and_not_elsewhere(tmp_path: Path, either: str) -> None:
    rule = Approval(impact=("high",))
    system = System(tmp_path, Policy(version="1+a", approval=rule, cache=NO_CACHE))
    walk = trips(system, 4, impact="high")
    assert asked(system, walk[:1]) == [True]
    # a job that merely says that it belongs to a walk of another way
    other = trips(system, 2, first=walk[0], impact="high", fallback=(), repetition=5)[1]
    assert system.dispatcher.submit(other).state == "awaiting_approval"
    # a replay is a decision of its own
    replayed = system.dispatcher.replay(system.dispatcher.job_id(walk[0]), by="ada", reason="again")
    assert replayed.state == "awaiting_approval"
    # another policy is asked anew, once
    later = System(tmp_path, Policy(version="2+b", approval=rule, cache=NO_CACHE))
    assert asked(later, walk[1:]) == [True, False, False]


def test_what_was_not_approved_is_asked_again(tmp_path: Path, either: str) -> None:
    """Three trips at 1 are approved; the second costs 1.9, so the third is above what was agreed."""
    system = System(tmp_path, Policy(approval=Approval(cost_above=2.0), cache=NO_CACHE), cost=1.0)
    walk = trips(system, 3)
    assert asked(system, walk[:1]) == [True]
    system.main.cost = 1.9
    assert asked(system, walk[1:2]) == [False]
    system.main.cost = 1.0
    assert asked(system, walk[2:]) == [True]


def test_a_question_in_the_middle_of_a_walk_is_answered_for_the_rest(tmp_path: Path, either: str) -> None:
    system = System(tmp_path, Policy(approval=Approval(backends=("second",)), cache=NO_CACHE))
    walk = trips(system, 4)
    assert asked(system, walk[:1]) == [False]
    for number, wanted in ((1, True), (2, False), (3, False)):
        system.main.refusals = [FailureClass.BACKEND]
        assert asked(system, walk[number : number + 1]) == [wanted]
    assert system.taken() == {"main": 1, "second": 3}
