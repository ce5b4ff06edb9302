"""Every quantum backend fails: the heuristic answers, and every table says that it was no quantum computer."""

from __future__ import annotations

import json

from hybrid_assets import checks
from hybrid_assets.line import LINE
from resources.backends.aer import Aer
from resources.backends.annealer import Annealer
from resources.backends.lightning import Lightning
from resources.failures import BackendError, FailureClass
from tests.dagster.conftest import Platform


class OutOfOrder(Aer):
    """Gone into maintenance."""

    def run(self, envelope, payload):  # type: ignore[no-untyped-def]
        raise BackendError("the device is in maintenance", FailureClass.BACKEND)


class Overbooked(Lightning):
    """Takes no more jobs."""

    def run(self, envelope, payload):  # type: ignore[no-untyped-def]
        raise BackendError("the queue is longer than the budget", FailureClass.SATURATION)


class NotThere(Annealer):
    """Not installed."""

    def available(self) -> str | None:
        return "no solver is reachable"


def test_the_heuristic_answers_when_no_quantum_backend_does(platform: Platform) -> None:
    defs = platform.with_backends(aer=OutOfOrder(), lightning=Overbooked(), annealer=NotThere())
    key = platform.landed(name="nobody.mc", backend="aer")
    outcome = platform.run(key, defs=defs)
    assert outcome.problem is None
    assert not outcome.pending

    samples = platform.rows("quantum_samples", key)
    assert set(samples["backend"]) == {"heuristic"}
    assert set(samples["evidence_class"]) == {"classical"}
    candidates = platform.rows("scored_candidates", key)
    assert set(candidates["arm"]) == {"fallback", "random_control"}
    assert candidates.loc[candidates["arm"] == "fallback", "objective"].max() == 13.0

    compared = platform.rows("baseline_comparisons", key).iloc[0]
    assert compared[["best_quantum", "quantum_backend", "quantum_lift", "best_surrogate"]].isna().all()
    assert (compared["winner"], compared["quantum_seconds"]) == ("classical", 0.0)

    decided = platform.rows("decisions", key).iloc[0]
    assert (decided["decision"], decided["source"], decided["evidence_class"]) == ("fallback", "classical", "classical")
    assert decided["objective"] == 13.0
    assert "answered by the heuristic fallback" in decided["reason"]
    path = json.loads(decided["path"])
    hops = [step for step in path if step.startswith("left ")]
    reasons = {
        "aer": "the device is in maintenance",
        "lightning": "the queue is longer than the budget",
        "annealer": "no solver is reachable",
    }
    # which quantum backends the policy tries, and in which order, is the policy's business
    for hop in hops:
        left, _, reason = hop.removeprefix("left ").partition(" for ")
        assert reasons[left] in reason
    assert hops[0].startswith("left aer for ")
    assert " for heuristic: " in hops[-1]
    assert path[len(hops)] == "quantum job: answered by the heuristic fallback, best heuristic with 13"

    for stage in LINE:
        expected = {"schema", *(check.name for check in checks.of(stage))}
        assert platform.evaluations(key, stage) == dict.fromkeys(expected, True), stage
