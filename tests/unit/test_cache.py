"""Cache: the same question has one answer, another question never gets it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.audit import AuditLog
from resources.cache import ResultCache, problem_of
from resources.database import patient
from resources.envelope import PAULI, Algorithm, JobEnvelope
from resources.failures import InputError
from resources.ledger import Ledger
from resources.policy import CachePolicy
from tests.unit.test_envelope import ALGORITHM, OTHER, envelope

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: Fields of the envelope that change what is asked; the backend is given apart.
ASKED = {"payload_ref", "algorithm", "repetition"}


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    made = Ledger(ledger_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def cache(ledger: Ledger) -> ResultCache:
    return ResultCache(ledger, CachePolicy(window_seconds=3600))


@patient
def keep(cache: ResultCache, asked: JobEnvelope, result_ref: str = "r" * 64, now: datetime = NOON) -> str:
    """Put a result as the dispatcher does; the key."""
    job, key = cache.ledger.intend(asked), cache.key(asked, asked.backend, "1.0", now)
    with cache.ledger.transaction() as tx:
        cache.put(tx, key, asked, job, result_ref, now)
    return key


def test_the_key_holds_what_is_asked_and_nothing_else(cache: ResultCache) -> None:
    def changes_it(**changes: Any) -> bool:
        return cache.key(envelope(**changes), "aer", "1", NOON) != cache.key(envelope(), "aer", "1", NOON)

    assert {field for field, value in OTHER.items() if changes_it(**{field: value})} == ASKED
    settings = {field for field, value in ALGORITHM.items() if changes_it(algorithm=Algorithm(**{field: value}))}
    assert settings == set(ALGORITHM)


def test_the_key_holds_the_machine_and_its_condition(cache: ResultCache) -> None:
    def key(backend: str = "aer", version: str = "1", now: datetime = NOON) -> str:
        return cache.key(envelope(), backend, version, now)

    assert len({key(), key("aer-noisy"), key(version="2"), key(now=NOON + HOUR), key(now=NOON - HOUR / 3600)}) == 5
    assert key() == key(now=NOON + HOUR * 0.999)


def test_an_answer_is_found_by_its_key_and_by_its_problem(cache: ResultCache) -> None:
    asked = envelope()
    assert cache.find(cache.key(asked, "aer", "1.0", NOON)) is None
    assert cache.any_of(asked) is None
    key = keep(cache, asked)
    found = cache.find(key)
    assert found is not None
    assert (found.key, found.problem, found.backend, found.result_ref) == (key, problem_of(asked), "aer", "r" * 64)
    assert found.job_id == cache.ledger.intend(asked).job_id
    assert (found.created_at, found.invalidated_at) == (NOON, None)
    assert cache.any_of(envelope(backend="ibm", algorithm=Algorithm(depth=1), repetition=4)) == found
    assert cache.any_of(envelope(kind="kernel", algorithm=Algorithm(name=PAULI))) is None
    assert cache.any_of(envelope(payload_ref="d" * 64)) is None


def test_the_newest_answer_is_the_last_resort(cache: ResultCache) -> None:
    keep(cache, envelope(repetition=1), "1" * 64, NOON - HOUR)
    keep(cache, envelope(backend="ibm"), "2" * 64, NOON)
    keep(cache, envelope(repetition=2), "3" * 64, NOON - 5 * HOUR)
    newest = cache.any_of(envelope())
    assert newest is not None
    assert (newest.result_ref, newest.backend) == ("2" * 64, "ibm")


def test_a_later_answer_takes_the_place_also_of_one_taken_back(cache: ResultCache) -> None:
    key = keep(cache, envelope(), "1" * 64)
    assert keep(cache, envelope(), "2" * 64) == key
    assert getattr(cache.find(key), "result_ref", None) == "2" * 64
    cache.invalidate(everything=True, by="ada", reason="calibration was wrong")
    assert cache.find(key) is None
    keep(cache, envelope(), "3" * 64)
    assert getattr(cache.find(key), "result_ref", None) == "3" * 64


def test_a_cache_that_is_off_keeps_and_finds_nothing(cache: ResultCache) -> None:
    on = keep(cache, envelope(repetition=1))
    off = ResultCache(cache.ledger, CachePolicy(window_seconds=0))
    key = keep(off, envelope())
    assert off.find(key) is None
    assert off.find(on) is None
    assert off.any_of(envelope()) is None
    assert cache.find(key) is None
    assert cache.find(on) is not None


def test_each_selector_takes_back_its_own(cache: ResultCache) -> None:
    asked = {
        "aer": envelope(),
        "ibm": envelope(backend="ibm"),
        "other problem": envelope(payload_ref="d" * 64),
    }
    keys = {name: keep(cache, made, result_ref=str(n) * 64) for n, (name, made) in enumerate(asked.items())}

    def valid() -> set[str]:
        return {name for name, key in keys.items() if cache.find(key) is not None}

    def invalidate(**selectors: Any) -> int:
        return cache.invalidate(**selectors, by="ada", reason="drift")

    assert invalidate(backend="ibm", problem=problem_of(asked["other problem"])) == 0
    assert valid() == set(keys)
    assert invalidate(backend="ibm") == 1
    assert valid() == {"aer", "other problem"}
    assert invalidate(problem=problem_of(asked["aer"])) == 1
    assert valid() == {"other problem"}
    assert invalidate(job_id=cache.ledger.intend(asked["other problem"]).job_id) == 1
    assert valid() == set()
    assert invalidate(everything=True) == 0
    assert cache.any_of(asked["aer"]) is None
    rows = AuditLog(cache.ledger).rows()
    assert [(r["actor"], r["action"], r["reason"]) for r in rows] == [("ada", "invalidate_cache", "drift")] * 5
    assert '"entries":1' in rows[1]["detail"]
    assert rows[1]["subject"] == "ibm"


def test_an_invalidation_says_what_who_and_why(cache: ResultCache) -> None:
    key = keep(cache, envelope())
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "nothing was selected"),
        ({"everything": True, "backend": "aer"}, "everything and a selection were both given"),
        ({"backend": "aer", "by": ""}, "by: it is empty"),
        ({"backend": "aer", "reason": " "}, "reason: it is empty"),
    ]
    for asked, sentence in refused:
        with pytest.raises(InputError, match=sentence):
            cache.invalidate(**({"by": "ada", "reason": "drift"} | asked))
    assert cache.find(key) is not None
    assert AuditLog(cache.ledger).rows() == []


def test_results_put_at_the_same_time_leave_one(cache: ResultCache) -> None:
    cache.ledger.intend(envelope())
    with ThreadPoolExecutor(6) as pool:
        keys = set(pool.map(lambda n: keep(cache, envelope(), f"{n:064}"), range(12)))
    assert len(keys) == 1
    assert cache.find(keys.pop()) is not None
