"""Accuracy classes: how far a correct kernel may be from the exact result.

The unit is u, half the spacing of floats near 1 in the output's dtype. A conformance suite turns a
class into a budget per element; here they are only named, beside the op that they belong to.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

Kind = Literal["exact", "rounded", "transcendental", "contraction", "composed"]


@attrs.frozen
class Accuracy:
    """`kind`, and for transcendental functions the factor `c` in units in the last place."""

    kind: Kind
    factor: float = 1.0


EXACT: Final = Accuracy("exact", 0.0)
ROUNDED: Final = Accuracy("rounded", 0.5)
CONTRACTION: Final = Accuracy("contraction")
COMPOSED: Final = Accuracy("composed")


def transcendental(ulp: float) -> Accuracy:
    """Error at most `max(ulp ULP, ulp * u * |x f'(x)|)`."""
    return Accuracy("transcendental", ulp)
