"""Routing as a pure function: what may never be chosen, what always has a reason, and rollout by segment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.backends.base import Capabilities, Estimate
from resources.envelope import KINDS, EvidenceClass, ProgramSize
from resources.failures import BackendError, FailureClass, InputError
from resources.policy import CACHED, HEURISTIC, REVIEW, Feature, Policy, Quality, RouteRule, Sizes, Then, When
from resources.routing import Asked, Facts, Route, Shown, bucket, is_on, route

ASKED = Asked("maxcut.ring", "maxcut", 12, "team:a")
QAOA = ("qaoa-ramp", "qaoa-trained")


def facts(tier: str = "simulator", variables: int = 16, algorithms: tuple[str, ...] = QAOA, **other: Any) -> Facts:
    known = {"metered", "remote", "leaves_machine"}
    evidence = EvidenceClass.SIMULATOR if algorithms == QAOA else EvidenceClass.SURROGATE
    can = Capabilities(evidence, variables, algorithms, tier=tier, **{k: other.pop(k) for k in known & other.keys()})
    return Facts(can, **other)


LOCAL = {
    "aer": facts(),
    "lightning": facts(),
    "annealer": facts(variables=5000, algorithms=("annealing",)),
    "heuristic": facts("cpu", 20_000, ("descent",)),
}
REMOTE = {
    name: facts("hardware", 100, remote=True, metered=True, leaves_machine=True) for name in ("ibm", "braket", "dwave")
}


def policy(*rules: RouteRule, **other: Any) -> Policy:
    return Policy(version="p", routes=rules, **other)


def rule(name: str = "all", when: When | None = None, **then: Any) -> RouteRule:
    return RouteRule(name=name, when=when or When(), then=Then(**then))


DEV = policy(rule(backends=("aer", "lightning"), fallback=("annealer",)))


def text(found: Route) -> str:
    return "\n".join(found.explanation)


def refused(*arguments: Any) -> str:
    with pytest.raises(BackendError) as error:
        route(*arguments)
    assert error.value.failure_class is FailureClass.CAPABILITY
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_first_usable_one_is_taken_and_the_chain_ends_in_the_heuristic() -> None:
    found = route(DEV, ASKED, LOCAL)
    assert (found.backend, found.fallback) == ("aer", ("lightning", "annealer", "heuristic"))
    assert (found.name, found.tier, found.policy_version) == ("all", "simulator", "p")
    # there is no other end to a chain that a person ends
    assert route(policy(rule(backends=("aer",), fallback=(REVIEW,))), ASKED, LOCAL).fallback == (REVIEW,)
    assert route(policy(rule(backends=("aer",), fallback=(HEURISTIC, CACHED))), ASKED, LOCAL).fallback == (
        HEURISTIC,
        CACHED,
    )


def test_a_backend_that_is_missing_is_passed_by_with_its_sentence() -> None:
    missing = "backend aer needs qiskit-aer: install the package"
    found = route(DEV, ASKED, LOCAL | {"aer": facts(missing=missing)})
    assert (found.backend, found.fallback) == ("lightning", ("annealer", "heuristic"))
    assert "backend aer: passed by, needs qiskit-aer: install the package" in found.explanation


def test_nothing_left_is_one_sentence_per_backend() -> None:
    hardware = policy(rule(backends=("ibm", "braket", "dwave"), fallback=("aer",)), killed=("dwave",))
    known = LOCAL | {
        "ibm": replace(REMOTE["ibm"], missing="backend ibm needs HYBRID_IBM_TOKEN"),
        "braket": replace(REMOTE["braket"], missing="no region: set AWS_REGION"),
        "dwave": REMOTE["dwave"],
    }
    said = refused(hardware, ASKED, known)
    for sentence in (
        "no backend of route all can take maxcut.ring",
        "backend ibm needs HYBRID_IBM_TOKEN",
        "braket: no region: set AWS_REGION",
        "dwave: the policy's kill switch keeps jobs from it",
    ):
        assert said.count(sentence) == 1
    # a simulator does not quietly stand in for a device
    assert "aer" not in said


def test_what_stays_here_never_leaves() -> None:
    mixed = policy(rule(backends=("ibm", "aer"), fallback=("braket", "lightning")))
    found = route(mixed, replace(ASKED, sensitivity="confidential"), LOCAL | REMOTE)
    assert (found.backend, found.fallback) == ("aer", ("lightning", "heuristic"))
    assert route(mixed, ASKED, LOCAL | REMOTE).backend == "ibm"
    assert "confidential payloads may not leave this machine" in refused(
        mixed, replace(ASKED, sensitivity="confidential", backend="ibm"), LOCAL | REMOTE
    )
    open_ = mixed.model_copy(update={"stays_here": ()})
    assert route(open_, replace(ASKED, sensitivity="confidential"), LOCAL | REMOTE).backend == "ibm"


def test_what_somebody_asks_for_is_honoured_or_refused() -> None:
    found = route(DEV, replace(ASKED, backend="lightning"), LOCAL)
    assert (found.backend, found.fallback) == ("lightning", ("aer", "annealer", "heuristic"))
    other = route(DEV, replace(ASKED, backend="ibm"), LOCAL | REMOTE)
    assert (other.backend, other.fallback) == ("ibm", ("aer", "lightning", "annealer", "heuristic"))
    for known, said in (
        (LOCAL, "no backend is registered under this name"),
        (LOCAL | {"ibm": facts(missing="no token")}, "ibm: no token"),
        (LOCAL | {"ibm": facts(killed="it was killed by ada (smoke)")}, "ibm: it was killed by ada (smoke)"),
    ):
        assert said in refused(DEV, replace(ASKED, backend="ibm"), known)


def test_a_tier_is_any_usable_backend_of_it_cheapest_and_fastest_first() -> None:
    any_ = policy(rule(tier="hardware"))
    prices = {"ibm": 3.0, "braket": 1.0, "dwave": 2.0}
    known = LOCAL | {n: replace(REMOTE[n], estimate=Estimate(0.0, 1.0, prices[n])) for n in REMOTE}
    assert (route(any_, ASKED, known).backend, *route(any_, ASKED, known).fallback) == (
        "braket",
        "dwave",
        "ibm",
        "heuristic",
    )
    assert route(DEV, replace(ASKED, tier="hardware"), known).backend == "braket"
    assert route(DEV, replace(ASKED, tier="simulator"), LOCAL).backend == "aer", "the route's own order comes first"
    quick = LOCAL | {"annealer": replace(LOCAL["annealer"], estimate=Estimate(0.0, 0.0, 0.0))}
    assert route(policy(rule(tier="simulator")), ASKED, quick).backend == "aer", "a surrogate comes last"
    assert "no backend of tier gpu is registered" in refused(policy(rule(tier="gpu")), ASKED, LOCAL)


def test_one_that_rests_goes_behind_and_is_taken_where_there_is_no_other() -> None:
    resting = LOCAL | {"aer": facts(resting="it is left alone for another 9 s")}
    found = route(DEV, ASKED, resting)
    assert (found.backend, found.fallback) == ("lightning", ("aer", "annealer", "heuristic"))
    assert "backend aer: fallback 1 (it is left alone for another 9 s)" in found.explanation
    alone = policy(rule(backends=("aer",)))
    assert route(alone, ASKED, resting).backend == "aer"
    assert route(DEV, replace(ASKED, backend="aer"), resting).backend == "aer", "its gate decides, with a record"


def test_a_fallback_that_is_too_small_is_left_out() -> None:
    found = route(DEV, replace(ASKED, backend="annealer", size=800), LOCAL)
    assert found.fallback == ("heuristic",)
    assert "backend aer: passed by, it takes 16 variables, the payload may have 800" in found.explanation
    wide = policy(rule(backends=("ibm",), fallback=("aer",), max_qubits=100))
    assert route(wide, replace(ASKED, size=16), LOCAL | REMOTE).fallback == ("aer", "heuristic")
    assert route(wide, replace(ASKED, size=17), LOCAL | REMOTE).fallback == ("heuristic",)
    narrowed = policy(rule(backends=("ibm",), fallback=("aer",), max_qubits=16))
    assert route(narrowed, replace(ASKED, size=900), LOCAL | REMOTE).fallback == ("aer", "heuristic")


def test_an_algorithm_that_is_asked_for_chooses_who_offers_it() -> None:
    both = policy(rule(backends=("aer", "annealer")))
    assert route(both, replace(ASKED, algorithm="annealing"), LOCAL).backend == "annealer"
    assert route(both, replace(ASKED, algorithm="qaoa-trained"), LOCAL).backend == "aer"
    assert route(DEV, replace(ASKED, algorithm="annealing"), LOCAL).backend == "annealer"


@pytest.mark.parametrize(
    ("when", "takes", "passes"),
    [
        (When(families=("max*", "qubo")), {"family": "maxcut"}, {"family": "portfolio"}),
        (When(size=Sizes(at_least=10, at_most=20)), {"size": 20}, {"size": 21}),
        (When(size=Sizes(at_least=10)), {"size": 10}, {"size": 9}),
        (When(sensitivity=("public",)), {"sensitivity": "public"}, {"sensitivity": "internal"}),
        (When(owners=("desk-*",)), {"owner": "desk-a"}, {"owner": "team"}),
        (When(impact=("high",)), {"impact": "high"}, {"impact": "routine"}),
        (When(deadline_within_hours=24), {"hours_left": 23.0}, {"hours_left": 25.0}),
        (When(deadline_within_hours=24), {"hours_left": -5.0}, {"hours_left": None}),
    ],
)
def test_the_first_rule_that_matches_counts(when: When, takes: dict[str, Any], passes: dict[str, Any]) -> None:
    rules = policy(rule("special", when, backends=("lightning",)), rule("rest", backends=("aer",)))
    assert route(rules, replace(ASKED, **takes), LOCAL).name == "special"
    other = route(rules, replace(ASKED, **passes), LOCAL)
    assert other.name == "rest"
    assert other.explanation[0].startswith("route special: passed by, ")


def test_quality_is_judged_once_there_is_enough_of_it() -> None:
    good = When(quality=Quality(min_jobs=10, min_win_or_tie_rate=0.5, max_median_gap=0.1))
    rules = policy(rule("proven", good, backends=("ibm", "braket")), rule("rest", backends=("aer",)))

    def chosen(ibm: Shown, braket: Shown) -> tuple[str, str]:
        known = LOCAL | REMOTE
        known |= {"ibm": replace(known["ibm"], shown=ibm), "braket": replace(known["braket"], shown=braket)}
        found = route(rules, ASKED, known)
        return found.name, found.backend

    poor, fine, fresh, far = Shown(1, 3, 6), Shown(2, 3, 5, 0.1), Shown(0, 0, 9), Shown(9, 1, 0, 0.2)
    assert chosen(poor, fresh) == ("proven", "braket")
    assert chosen(fresh, fine) == ("proven", "ibm"), "with too few jobs nobody can judge"
    assert chosen(poor, far) == ("rest", "aer")
    assert chosen(fine, poor) == ("proven", "ibm")


def test_cost_is_a_condition_and_a_ceiling() -> None:
    def dear(cost: float, jobs: int = 1) -> dict[str, Facts]:
        return LOCAL | {"ibm": replace(REMOTE["ibm"], estimate=Estimate(0.0, 0.0, cost), jobs=jobs)}

    rules = policy(rule("cheap", When(max_cost=5), backends=("ibm",)), rule("rest", backends=("aer",)))
    assert route(rules, ASKED, dear(5.0)).backend == "ibm"
    assert route(rules, ASKED, dear(5.1)).backend == "aer"
    assert route(rules, ASKED, dear(2.0, jobs=3)).backend == "aer", "every job of an instance costs"
    either = policy(rule(backends=("ibm", "aer"), cost_ceiling=4.0))
    assert (route(either, ASKED, dear(4.0)).backend, route(either, ASKED, dear(4.1)).backend) == ("ibm", "aer")
    assert route(either, replace(ASKED, cost_ceiling=3.0), dear(3.5)).backend == "aer"
    assert route(either, replace(ASKED, cost_ceiling=3.0), dear(1.0)).cost_ceiling == 3.0
    assert route(either, replace(ASKED, cost_ceiling=9.0), dear(1.0)).cost_ceiling == 4.0
    only = policy(rule(backends=("ibm",)))
    assert "ibm: it would cost at least 9.00 EUR, the ceiling is 1.00" in refused(
        only, replace(ASKED, cost_ceiling=1.0), dear(9.0)
    )


def test_settings_of_the_rule_arrive() -> None:
    then = {"max_qubits": 9, "budget_seconds": 7.0, "queue_seconds": 3.0, "depth": 4, "shots": 5, "priority": 6}
    found = route(policy(rule(backends=("aer",), **then)), ASKED, LOCAL)
    assert {key: getattr(found, key) for key in then} == then


def test_no_rule_at_all_is_said() -> None:
    with pytest.raises(InputError, match=r"p: routes: none matches maxcut.ring; end them with one without `when`"):
        route(policy(rule(when=When(families=("qubo",)), backends=("aer",))), ASKED, LOCAL)


# --- flags ----------------------------------------------------------------------------------------------------------


def flag(percent: float, **other: Any) -> Feature:
    return Feature(name="try", percent=percent, then=Then(backends=("lightning",)), **other)


def test_a_flag_replaces_what_the_rule_says() -> None:
    base = rule(backends=("aer",))
    on = route(policy(base, features=(flag(100),)), ASKED, LOCAL)
    assert (on.backend, on.features, on.name) == ("lightning", ("try",), "all")
    off = route(policy(base, features=(flag(0),)), ASKED, LOCAL)
    assert (off.backend, off.features) == ("aer", ())
    assert off.explanation[0].startswith("feature try: off")
    elsewhere = route(policy(base, features=(flag(100, routes=("other",)),)), ASKED, LOCAL)
    assert (elsewhere.backend, elsewhere.explanation[0]) == ("aer", "route all: taken")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.floats(0, 100), st.floats(0, 100))
def test_who_has_a_flag_keeps_it_as_it_grows(instance: str, one: float, other: float) -> None:
    asked = replace(ASKED, instance=instance)
    low, high = sorted((one, other))
    assert not is_on(flag(low), asked) or is_on(flag(high), asked)
    assert not is_on(flag(0), asked)
    assert is_on(flag(100), asked)


def test_segments_are_spread_evenly_and_each_flag_on_its_own() -> None:
    segments = [f"maxcut.g{n}" for n in range(4000)]
    for percent in (1, 10, 50):
        share = sum(bucket("try", s) < percent for s in segments) / len(segments)
        # five standard deviations of a binomial
        assert abs(share - percent / 100) < 5 * (percent / 100 * (1 - percent / 100) / len(segments)) ** 0.5
    both = sum(bucket("try", s) < 50 and bucket("other", s) < 50 for s in segments) / len(segments)
    assert abs(both - 0.25) < 0.04


def test_an_owner_is_one_segment() -> None:
    feature = flag(50, segment="owner")
    for owner in ("a", "b", "c", "d"):
        answers = {is_on(feature, replace(ASKED, owner=owner, instance=f"maxcut.{n}")) for n in range(20)}
        assert len(answers) == 1
    assert {is_on(feature, replace(ASKED, owner=f"team:{n}")) for n in range(20)} == {True, False}


def test_a_segment_s_place_is_the_same_in_every_process() -> None:
    code = "from resources.routing import bucket; print(repr(bucket('try', 'maxcut.ring')))"
    # and under another seed of Python's own hash
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == repr(bucket("try", "maxcut.ring"))


# --- whatever the policy and the facts ------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
maybe = st.sampled_from([None, None, "because"])
any_facts = st.builds(
    facts,
    tier=st.sampled_from(["simulator", "hardware"]),
    variables=st.integers(1, 40),
    leaves_machine=st.booleans(),
    missing=maybe,
    killed=maybe,
    resting=maybe,
    estimate=st.none() | st.builds(Estimate, st.just(0.0), st.floats(0, 9), st.floats(0, 9)),
    jobs=st.integers(1, 3),
    shown=st.builds(Shown, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.none() | st.floats(0, 1)),
)
some = st.lists(st.sampled_from(NAMES), unique=True, max_size=4).map(tuple)
any_then = st.builds(
    lambda backends, fallback, ceiling: Then(
        backends=backends, tier=None if backends else "hardware", fallback=fallback, cost_ceiling=ceiling
    ),
    some,
    some,
    st.none() | st.floats(0, 9),
)
any_when = st.builds(
    When,
    size=st.none() | st.builds(Sizes, at_least=st.integers(0, 30)),
    sensitivity=st.sampled_from([(), ("public",), ("confidential",)]),
    max_cost=st.none() | st.floats(0, 9),
    quality=st.none() | st.builds(Quality, min_jobs=st.just(3), min_win_or_tie_rate=st.floats(0, 1)),
)
any_policy = st.builds(
    lambda first, last, features, killed: Policy(
        version="p",
        routes=(*(RouteRule(name=f"r{n}", when=w, then=t) for n, (w, t) in enumerate(first)),
                RouteRule(name="rest", then=last)),
        features=tuple(Feature(name=f"f{n}", percent=p, then=t) for n, (p, t) in enumerate(features)),
        killed=killed,
    ),
    st.lists(st.tuples(any_when, any_then), max_size=2),
    any_then,
    st.lists(st.tuples(st.floats(0, 100), any_then), max_size=1),
    some,
)  # fmt: skip
any_asked = st.builds(
    Asked,
    instance=st.sampled_from(["maxcut.a", "maxcut.b"]),
    family=st.just("maxcut"),
    size=st.integers(1, 50),
    owner=st.just("me"),
    sensitivity=st.sampled_from(["public", "internal", "confidential"]),
    backend=st.none() | st.sampled_from(NAMES),
    tier=st.none() | st.sampled_from(["simulator", "hardware"]),
    cost_ceiling=st.none() | st.floats(0, 9),
)


@settings(max_examples=100, deadline=None)
@given(any_policy, any_asked, st.dictionaries(st.sampled_from(NAMES), any_facts))
def test_what_may_not_be_used_is_never_in_a_route(rules: Policy, asked: Asked, known: dict[str, Facts]) -> None:
    try:
        found = route(rules, asked, known)
    except BackendError:
        return
    assert route(rules, asked, known) == found, "the same question has the same answer"
    chain = (found.backend, *found.fallback)
    assert len(set(chain)) == len(chain)
    for name in set(chain) - {HEURISTIC}:
        fact = known[name]
        assert name not in rules.killed
        assert fact.killed is None
        assert fact.missing is None
        assert not (fact.capabilities.leaves_machine and asked.sensitivity in rules.stays_here)
        if found.cost_ceiling is not None and fact.estimate is not None:
            assert fact.estimate.cost * fact.jobs <= found.cost_ceiling
    assert chain[-1] == HEURISTIC
    if asked.backend is not None:
        assert found.backend == asked.backend
    # whoever the taken rule or flag names has a line that says why
    flags = [feature for feature in rules.features if feature.name in found.features]
    then = flags[0].then if flags else next(rule for rule in rules.routes if rule.name == found.name).then
    for name in {*then.backends, *then.fallback, *chain}:
        assert any(line.startswith(f"backend {name}: ") for line in found.explanation), name
    for rule_ in rules.routes[: [rule_.name for rule_ in rules.routes].index(found.name) + 1]:
        assert any(line.startswith(f"route {rule_.name}: ") for line in found.explanation), rule_.name


def test_programs_go_where_their_kind_is_offered_and_nowhere_else() -> None:
    offers = {name: Facts(replace(found.capabilities, kinds=KINDS)) for name, found in LOCAL.items() if "l" in name}
    asked = replace(ASKED, family="circuits", kind="estimate", program=ProgramSize(circuits=9))
    found = route(policy(rule(backends=("aer", "lightning"), fallback=("annealer", HEURISTIC))), asked, LOCAL | offers)
    assert (found.backend, found.fallback) == ("lightning", ("annealer",))
    assert "aer: passed by, it offers sample jobs, this is estimate" in text(found)
    assert "nothing classical answers estimate jobs" in text(found)
    large = refused(DEV, replace(asked, size=17), LOCAL | offers)
    assert "lightning: it takes 16 qubits, the program has 17" in large
