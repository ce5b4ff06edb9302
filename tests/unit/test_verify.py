"""An answer is of the kind and the shape that its job asks for."""

from __future__ import annotations

from typing import Any

import pytest

from resources.backends.conformance_programs import asymmetric_program, program_envelope
from resources.backends.lightning import Lightning
from resources.delivery import verify
from resources.envelope import PAULI, Algorithm, SampleCount
from resources.failures import InvariantError


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": ((1.0,),), "standard_errors": ((0.1,),)}, "a table of 1 by 1, .* a table of 3 by 2"),
        ({"values": (), "standard_errors": (), "samples": (SampleCount(bits="010", energy=0.0, count=50),)}, "samples"),
    ],
)
def test_values_of_another_shape_or_samples_are_no_answer(change: dict[str, Any], words: str) -> None:
    backend, program = Lightning(), asymmetric_program("estimate")
    envelope = program_envelope(backend, program, "estimate", Algorithm(name=PAULI, shots=50))
    result = backend.run(envelope, program)
    verify(result, backend, envelope)
    with pytest.raises(InvariantError, match=words):
        verify(result.model_copy(update=change), backend, envelope)
