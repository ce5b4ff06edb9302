"""Policy files: what is understood, and one sentence for everything that cannot be meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.environments import SETTINGS, backend_factories
from resources.failures import InputError
from resources.home import PROJECT
from resources.policy import POLICIES, Approval, Policy, leaves_machine, load, matches

GOOD = """
version: "t-1"
currency: USD
routes:
  - name: here
    when: {sensitivity: [confidential]}
    then: {backends: [aer], fallback: [lightning, heuristic]}
  - name: rest
    then: {backends: [aer, lightning], fallback: [annealer, heuristic, cached, review], cost_ceiling: 5}
features:
  - {name: try, percent: 25, segment: owner, routes: [rest], then: {tier: simulator}}
prices: {aer: {per_job: 0.5, per_shot: 0.001}}
budgets:
  - {owner: "desk-*", money: 50}
  - {money: 20, jobs: 100}
approval: {cost_above: 2.5, impact: [high], backends: [lightning]}
breaker: {failures: 2, open_seconds: 10, longest_seconds: 100}
limits: {aer: {open_jobs: 3}}
cache: {window_seconds: 0}
replay: {per_hour: 1}
stays_here: [confidential, internal]
killed: [annealer]
"""


def written(folder: Path, text: str, name: str = "dev.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def sentence(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as error:
        load("dev", written(folder, text))
    said = str(error.value)
    assert said.startswith("dev.yaml: ")
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said) < 500
    return said


def test_every_section_arrives(tmp_path: Path) -> None:
    policy = load("dev", written(tmp_path, GOOD))
    assert [route.name for route in policy.routes] == ["here", "rest"]
    assert policy.routes[1].then.fallback == ("annealer", "heuristic", "cached", "review")
    assert policy.features[0].then.tier == "simulator"
    assert policy.prices["aer"].per_shot == 0.001
    assert [budget.owner for budget in policy.budgets] == ["desk-*", "*"]
    assert policy.approval == Approval(cost_above=2.5, impact=("high",), backends=("lightning",))
    assert (policy.breaker.failures, policy.limits["aer"].open_jobs, policy.replay.per_hour) == (2, 3, 1)
    assert policy.stays_here == ("confidential", "internal")
    assert policy.killed == ("annealer",)


def test_two_different_files_never_share_a_version(tmp_path: Path) -> None:
    one = load("dev", written(tmp_path, GOOD))
    other = load("dev", written(tmp_path, GOOD.replace("per_hour: 1", "per_hour: 2")))
    again = load("dev", written(tmp_path, GOOD, "copy.yaml"))
    assert one.version.startswith("t-1+")
    assert one.version != other.version
    assert one.version == again.version
    assert other.replay.per_hour == 2, "a file that changes is read again"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version: "t-1"', "", "version: it is missing or no text"),
        ('version: "t-1"', "version: 3", "version: it is missing or no text"),
        ("currency:", "colour: red\ncurrency:", "colour: this key is unknown; use one of approval, breaker, budgets"),
        ("failures: 2,", "failure: 2,", "breaker.failure: this key is unknown; use one of failures, longest_seconds"),
        ("per_job: 0.5,", "per_jop: 0.5,", "prices.aer.per_jop: this key is unknown; use one of per_job, per_second"),
        ("percent: 25,", "percent: 25, x: 1,", "features.0.x: this key is unknown; use one of name, percent, routes"),
        ("name: rest", "name: rest\n    wen: {}", "routes.1.wen: this key is unknown; use one of name, then, when"),
        ("{backends: [aer],", "{backend: [aer],", "routes.0.then.backend: this key is unknown; use one of backends"),
        ("[confidential]}", "[secret]}", "routes.0.when.sensitivity.0: input should be 'public', 'internal' or"),
        ("tier: simulator", "tier: abacus", "features.0.then.tier: input should be 'cpu', 'gpu', 'simulator'"),
        ("failures: 2,", "failures: many,", "breaker.failures: input should be a valid integer"),
        ("failures: 2,", "failures: 0,", "breaker.failures: input should be greater than or equal to 1 (it is 0)"),
        ("money: 50", "money: .inf", "budgets.0.money: input should be a finite number"),
        ("percent: 25,", "percent: 125,", "features.0.percent: input should be less than or equal to 100 (it is 125)"),
        ("percent: 25,", "", "features.0.percent: it is missing"),
        ("currency: USD", "currency: USD\ncurrency: EUR", "it is not valid YAML (a key is given twice)"),
        ("open_seconds: 10,", "open_seconds: 1000,", "breaker.open_seconds: the first pause of 1000 s is longer"),
        ("money: 20,", "money: 2,", "budgets.1.money: the month's 2 USD of '*' are less than the 2.5 above which"),
        ("money: 20,", "money: 3,", "budgets.1.money: the month's 3 USD of '*' are less than the 5 that routes.1.then"),
        ('owner: "desk-*"', 'owner: "*"', "budgets.1.owner: '*' comes first and matches all of it"),
        ('owner: "desk-*"', 'owner: "d*k"', "budgets.0.owner: 'd*k' has a * before its end"),
        ("backends: [aer, light", "backends: [ear, light", "routes.1.then.backends: no backend is registered as 'ear'"),
        ("[lightning, heuristic]", "[lightening]", "routes.0.then.fallback: no backend is registered as 'lightening'"),
        ("killed: [annealer]", "killed: [aneler]", "killed: no backend is registered as 'aneler'; use one of aer"),
        ("prices: {aer", "prices: {review", "prices: no backend is registered as 'review'"),
        ("limits: {aer", "limits: {air", "limits: no backend is registered as 'air'"),
        ("backends: [lightning]}", "backends: [bolt]}", "approval.backends: no backend is registered as 'bolt'"),
        ("{tier: simulator}", "{}", "features.0.then: it needs either backends or a tier"),
        ("{tier: simulator}", "{tier: cpu, backends: [aer]}", "features.0.then: it needs either backends or a tier"),
        ("cached, review]", "review, cached]", "routes.1.then.fallback: nothing can follow a review"),
        ("routes: [rest]", "routes: [best]", "features.0.routes: there is no route 'best'"),
        ("name: rest", "name: here", "routes: 2 of them are named 'here'"),
        ("name: rest", "name: rest\n    when: {impact: [high]}", "routes.1.when: the last route does not match"),
        ("    when: {sensitivity: [confidential]}\n", "", "routes.0.when: it matches everything, so no later route"),
        ("{sensitivity: [confidential]}", "{size: {at_least: 5, at_most: 4}}", "routes.0.when.size: 5 to 4 is empty"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert GOOD.count(old) == 1, "the test changes exactly one place"
    assert said in sentence(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "document: it is not a mapping"),
        ("- 1", "document: it is not a mapping"),
        ("version: a", "routes: there is none"),
        ("version: a\nroutes: []", "routes: there is none"),
        ("version: a\nroutes: {aer: 1}", "routes: input should be a valid tuple"),
        ("version: &a b\nroutes: *a", "aliases are not allowed"),
    ],
)
def test_what_is_no_policy_at_all(tmp_path: Path, text: str, said: str) -> None:
    assert said in sentence(tmp_path, text)


def test_what_stays_here_has_no_route_elsewhere(tmp_path: Path) -> None:
    away = sorted(name for name in backend_factories() if leaves_machine(name))
    for old, key in (("{backends: [aer],", "backends"), ("[lightning, heuristic]", "fallback")):
        found = sentence(tmp_path, GOOD.replace(old, old.replace("aer", away[0]).replace("lightning", away[0])))
        assert f"routes.0.then.{key}: confidential payloads may not leave this machine, {away[0]} is elsewhere" in found


def test_a_budget_of_nothing_is_a_clear_wish(tmp_path: Path) -> None:
    assert load("dev", written(tmp_path, GOOD.replace("money: 20", "money: 0"))).budgets[1].money == 0


def test_another_file_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_POLICY", str(written(tmp_path, GOOD, "mine.yaml")))
    assert load("production").version.startswith("t-1+")
    monkeypatch.setenv("HYBRID_POLICY", str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match=r"none.yaml: HYBRID_POLICY: it cannot be read \(no such file"):
        load("dev")


@pytest.mark.parametrize("environment", SETTINGS)
def test_the_shipped_files_hold(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_POLICY", raising=False)
    policy = load(environment)
    assert policy.version.startswith(f"{environment}-")
    assert not policy.killed
    assert {file.stem for file in POLICIES.iterdir()} == set(SETTINGS)
    makers = backend_factories()
    used = {name for rule in policy.routes for name in (*rule.then.backends, *rule.then.fallback)} & makers.keys()
    assert {n for n in used if makers[n]().capabilities().metered} <= set(policy.prices), "what costs has a price"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80))
def test_no_text_at_all_is_an_accident(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("policy") / "p.yaml"
    file.write_bytes(text.encode("utf-8", errors="replace"))
    with pytest.raises(InputError):
        load("dev", file)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [("*", "", True), ("a*", "abc", True), ("a*", "b", False), ("a", "a", True), ("a", "ab", False)],
)
def test_patterns_end_in_a_star(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Policy().version = "x"  # type: ignore[misc]


def test_the_documented_rules_are_a_policy(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "routing.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    policy = load("dev", written(tmp_path, "".join(blocks)))
    assert [feature.name for feature in policy.features] == ["try-mps"]
    assert policy.routes[0].when.quality is not None
    for key in Policy.model_fields:
        assert f"`{key}`" in page or f"{key}:" in page, f"{key} is not explained"
