"""Vector code for the mixer: butterflies of exp(iβX) on one to three variables at a time, in registers.

Here: the operations, written as LLVM instructions because LLVM's vectorizer cannot see that rows of one array are
apart. Not here: the loops over a state (``statevector_loops``). numba's cache follows changes within one file only: who
changes this one removes ``__pycache__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

#: Bytes of one vector, a cache line; a narrower machine takes several registers for one.
VECTOR = 64


def butterfly(bits: int, lanes: bool) -> Callable[..., None]:
    """An operation that turns ``bits`` variables by 1 + i·tan β·X, on whole vectors, in registers.

    Row r of 2^bits is the vector at ``at + r·stride``; it is written to ``to + r·step``. With ``lanes`` the variables
    within a vector turn too. As vector code, because LLVM cannot see that rows of one array are apart.
    """

    @intrinsic
    def turn(context, from_re, from_im, at, stride, to_re, to_im, to, step, tangent):  # type: ignore[no-untyped-def]
        kind = from_re.dtype
        width = 8 * VECTOR // kind.bitwidth
        signature = types.void(from_re, from_im, at, stride, to_re, to_im, to, step, tangent)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            vector = ir.VectorType(context.get_value_type(kind), width)
            integer, undefined = ir.IntType(32), ir.Constant(vector, ir.Undefined)

            def places(array: int, first: int, gap: int) -> list[Any]:
                data = context.make_array(signature.args[array])(context, builder, values[array]).data
                steps = [builder.mul(values[gap], ir.Constant(ir.IntType(64), row)) for row in range(1 << bits)]
                starts = [builder.gep(data, [builder.add(values[first], step)]) for step in steps]
                return [builder.bitcast(start, vector.as_pointer()) for start in starts]

            def plus(a: Any, b: Any, c: Any) -> Any:
                return builder.fadd(a, builder.fmul(b, c, flags=("contract",)), flags=("contract",))

            def shuffled(a: Any, order: list[int]) -> Any:
                return builder.shuffle_vector(a, undefined, ir.Constant(ir.VectorType(integer, width), order))

            size = kind.bitwidth // 8
            re, im = ([builder.load(place, align=size) for place in places(array, 2, 3)] for array in (0, 1))
            t = shuffled(builder.insert_element(undefined, values[8], ir.Constant(integer, 0)), [0] * width)
            minus = builder.fneg(t)
            for lane in (1 << k for k in range(width.bit_length() - 1) if lanes):
                order = [x ^ lane for x in range(width)]
                other_re, other_im = ([shuffled(row, order) for row in part] for part in (re, im))
                re = [plus(a, minus, b) for a, b in zip(re, other_im, strict=True)]
                im = [plus(a, t, b) for a, b in zip(im, other_re, strict=True)]
            for bit in range(bits):
                other_re, other_im = ([part[row ^ (1 << bit)] for row in range(1 << bits)] for part in (re, im))
                re = [plus(a, minus, b) for a, b in zip(re, other_im, strict=True)]
                im = [plus(a, t, b) for a, b in zip(im, other_re, strict=True)]
            for array, part in ((4, re), (5, im)):
                for place, row in zip(places(array, 6, 7), part, strict=True):
                    builder.store(row, place, align=size)
            return context.get_dummy_value()

        return signature, generate

    return cast(Callable[..., None], turn)
