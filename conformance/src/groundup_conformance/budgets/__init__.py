"""How far a correct result may be from the exact one: units, profiles, verdicts.

`units` measures floats, a `Profile` says what a kind of device may do at each step, `Expected`
holds exact results beside their budget and judges what a backend computed.
"""

from __future__ import annotations

from typing import Final

from groundup_conformance.budgets.expected import Expected, Verdict
from groundup_conformance.budgets.ieee import IEEE
from groundup_conformance.budgets.profile import Profile
from groundup_conformance.budgets.wgsl import WGSL

PROFILES: Final[dict[str, Profile]] = {profile.name: profile for profile in (IEEE, WGSL)}

__all__ = ["IEEE", "PROFILES", "WGSL", "Expected", "Profile", "Verdict"]
