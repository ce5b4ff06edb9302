"""Failures: their sentences, and what a client's error says about whether its request left."""

from __future__ import annotations

import pickle

import pytest

from resources.failures import FailureClass, InfeasibleError, InputError, causes, never_connected


def raised(*errors: Exception) -> Exception:
    """The last of several errors, each raised while the one before was handled."""
    try:
        if errors[1:]:
            raised_before = raised(*errors[:-1])
            try:
                raise raised_before
            except Exception:
                raise errors[-1]  # noqa: B904 - as clients do
        raise errors[-1]
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("errors", "unsent"),
    [
        ([ConnectionRefusedError()], True),
        ([ConnectionRefusedError(), OSError("no route"), RuntimeError("the client gives up")], True),
        ([ConnectionResetError()], False),
        ([TimeoutError()], False),
        ([RuntimeError()], False),
        # a client of its own repeats: the first time nobody listened, the second time the answer was lost
        ([ConnectionRefusedError(), ConnectionResetError()], False),
        ([ConnectionResetError(), ConnectionRefusedError(), RuntimeError()], False),
    ],
)
def test_only_what_never_connected_was_certainly_not_sent(errors: list[Exception], unsent: bool) -> None:
    error = raised(*errors)
    assert [type(one) for one in causes(error)] == [type(one) for one in reversed(errors)]
    assert never_connected(error) is unsent


def test_an_infeasible_input_says_so_and_survives_a_process() -> None:
    error = InfeasibleError("vans.vrp", "demand", "31 exceeds the fleet's 30", "add a vehicle")
    assert str(error) == "vans.vrp: no solution exists: demand: 31 exceeds the fleet's 30; add a vehicle."
    assert error.failure_class is FailureClass.INPUT
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (InfeasibleError, str(error))
    assert str(InputError("a", "b", "c", "d")) == "a: b: c; d."
