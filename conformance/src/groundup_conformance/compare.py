"""What got worse between two scorecards, errors that grow within their budget included."""

from __future__ import annotations

from typing import Final

import attrs

from groundup_conformance.scorecard import Card

RATCHET: Final = 4.0  # how much an error may grow before it is worse
_NOISE: Final = 0.05  # ratios below are not compared: a reordered sum moves them
# From good to bad. What is blocked would have been run.
_ORDER: Final = ("passed", "unsupported", "waived", "blocked", "failed")


@attrs.frozen
class Change:
    """One case that is not as good as it was."""

    id: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.id}: {self.before} -> {self.after}"


def worse(old: Card, new: Card, *, ratchet: bool = True) -> list[Change]:
    """The cases of `old` that are worse or gone, or, with `ratchet`, whose error grew.

    A case is gone only where `new` is a run of the same or of a higher level without filters.
    """
    before = {case["id"]: case for case in old["cases"]}
    after = {case["id"]: case for case in new["cases"]}
    whole = not new["selection"] and (new["level"] or 0) >= (old["level"] or 0)
    changes = []
    for name, one in before.items():
        two = after.get(name)
        if two is None:
            if whole and "track" not in one:
                changes.append(Change(name, one["status"], "gone"))
            continue
        if _ORDER.index(two["status"]) > _ORDER.index(one["status"]):
            changes.append(Change(name, one["status"], two["status"]))
        elif ratchet and _grew(one, two):
            changes.append(Change(name, f"ratio {one['ratio']:.3g}", f"{two['ratio']:.3g}"))
    return changes


def better(old: Card, new: Card) -> list[Change]:
    """The cases whose status is better, and new ones that pass."""
    before = {case["id"]: case["status"] for case in old["cases"]}
    changes = []
    for case in new["cases"]:
        was = before.get(case["id"], "failed")
        if _ORDER.index(case["status"]) < _ORDER.index(was) and case["id"] in before:
            changes.append(Change(case["id"], was, case["status"]))
    return changes


def differences(old: Card, new: Card) -> list[str]:
    """Why two scorecards may not be comparable at all: other devices, profiles, ops."""
    keys = ("backend", "device", "profile", "suite", "ops")
    return [f"{k}: {old[k]} and {new[k]}" for k in keys if old[k] != new[k]]


def _grew(old: Card, new: Card) -> bool:
    if old["ratio"] is None or new["ratio"] is None:
        return False
    return bool(new["ratio"] > RATCHET * max(old["ratio"], _NOISE))
