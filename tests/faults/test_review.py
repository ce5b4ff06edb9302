"""What a hostile reader tried on the control plane: stale processes, poisoned batches, gates that were slipped past.

Every test here failed once, or guards against what was only prevented by luck.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resources import reconciler
from resources.backends.base import ProviderStatus
from resources.controls import Mode
from resources.ledger import job_id_of
from resources.policy import CachePolicy
from resources.sending import send
from tests.faults.test_dispatcher import System

NO_CACHE = CachePolicy(window_seconds=0)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


# --- stale processes ------------------------------------------------------------------------------------------------


def test_a_stale_process_cannot_send_a_job_past_the_gates_of_its_next_backend(system: System) -> None:
    """Between the look and the claim another process has passed the job on, without an attempt."""
    envelope = system.envelope()
    stale = system.ledger.intend(envelope, claim_seconds=60)
    system.dispatcher.control("main", Mode.KILLED, by="ada", reason="trouble")
    system.dispatcher.control("second", Mode.PAUSED, by="ada", reason="trouble")
    after = System(system.root).dispatcher.submit(envelope)
    assert (after.state, after.backend, after.hop) == ("intended", "second", 1)
    system.dispatcher.control("main", Mode.OPEN, by="ada", reason="over")
    assert send(system.dispatcher, [(stale, envelope)]) == [after]
    assert not system.taken()
    assert system.ledger.job(stale.job_id) == after


def test_a_stale_look_cannot_take_the_lease_of_a_sender(system: System) -> None:
    envelope = system.envelope()
    system.main.words = [ProviderStatus.QUEUED]
    system.dispatcher.submit(envelope)
    stale = system.ledger.job(job_id_of(envelope))
    until = datetime.now(UTC) + timedelta(seconds=100)
    system.ledger.move(stale.job_id, "intended", "passed on", backend="second", hop=1)
    system.ledger.move(stale.job_id, "submitting", "by another host", claimed_by="elsewhere:1:1", claimed_until=until)
    reconciler.look(system.dispatcher, "main", [(stale, envelope)])
    assert system.ledger.job(stale.job_id).claimed_until == until
