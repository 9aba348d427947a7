"""How quick each tile of matrix products is on a device: measured once, then known from disk.

The file is in GROUNDUP_CACHE, else XDG_CACHE_HOME/groundup, else ~/.cache/groundup, for each
adapter, driver, and memory of workgroups. GROUNDUP_WEBGPU_TILES chooses otherwise: `guessed` rates,
`measured` anew, or names of tiles, of which the first that suit are taken.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from groundup import dtypes
from groundup.errors import CheckpointError, ConfigError, KernelCompileError, OutOfMemory
from groundup.files import atomic_write
from groundup_webgpu.sides import Product, Side
from groundup_webgpu.tiles import Rated, Tile

VARIABLE: Final = "GROUNDUP_WEBGPU_TILES"
# What is measured: enough tiles for many turns of a large GPU, little enough for a small one.
_ROWS, _COLUMNS, _INNER = 4096, 2048, 1024
PROBLEM: Final = Product(
    dtypes.float32, Side(_ROWS, _INNER, 1, ()), Side(_COLUMNS, 1, _COLUMNS, ()), (), _INNER
)
_OPERATIONS: Final = 2.0 * _ROWS * _COLUMNS * _INNER
_RATES: Final = "operations per second"
_KERNELS: Final = 1  # counts up when the kernel of tiles changes, so that they are measured again


def rated_tiles(
    choices: Sequence[Rated], adapter: Mapping[str, object], seconds: Callable[[Tile], float] | None
) -> tuple[Rated, ...]:
    """The tiles with their rates; `seconds(tile)` is what PROBLEM takes, None if nobody can tell.

    Raises ConfigError for a name that no tile of `choices` has.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "guessed", "measured"):
        return _named(choices, wanted)
    if wanted == "guessed" or seconds is None:
        return tuple(choices)
    file = _file(choices, adapter)
    rates = {} if wanted == "measured" else _read(file)
    if not rates:
        try:
            rates = _measured(choices, seconds)
        except OutOfMemory:
            return tuple(choices)  # others have the device's memory: at the next start, perhaps
        _write(file, {"adapter": dict(adapter), _RATES: rates})
    found = [Rated(c.tile, rates[str(c.tile)]) for c in choices if rates.get(str(c.tile))]
    return tuple(found or choices)


def _named(choices: Sequence[Rated], names: str) -> tuple[Rated, ...]:
    """Each is rated as far better than those after it that shapes hardly count."""
    known = {str(each.tile): each.tile for each in choices}
    found = []
    for place, name in enumerate(names.split(",")):
        if name not in known:
            raise ConfigError(
                f"{VARIABLE}: there is no tile {name!r} here",
                hint=f"'guessed', 'measured', or some of {', '.join(known)}",
            )
        found.append(Rated(known[name], 1e3**-place))
    return tuple(found)


def _measured(choices: Sequence[Rated], seconds: Callable[[Tile], float]) -> dict[str, float]:
    """Operations per second; none of a tile that the driver cannot compile.

    The better of two rounds: a device that was idle is slow at first. With two digits, for less is
    noise, and of equals the first is taken wherever this runs.
    """
    rates: dict[str, float] = {}
    for each in (*choices, *choices):
        name = str(each.tile)
        try:
            rate = _OPERATIONS / seconds(each.tile)
        except KernelCompileError:
            rate = 0.0
        rates[name] = max(rates.get(name, 0.0), float(f"{rate:.2g}"))
    return rates


def _file(choices: Sequence[Rated], adapter: Mapping[str, object]) -> Path:
    names = [str(each.tile) for each in choices]
    decisive = json.dumps([_KERNELS, names, adapter], sort_keys=True, default=str)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:32]
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get("GROUNDUP_CACHE") or Path(base).expanduser() / "groundup"
    return Path(folder) / "webgpu" / f"tiles-{digest}.json"


def _read(file: Path) -> dict[str, float]:
    """Nothing if there is no such file, or none that can be understood."""
    try:
        found = json.loads(file.read_text("utf-8"))[_RATES]
        rates = {str(name): float(rate) for name, rate in found.items()}
        return rates if all(0 <= rate < math.inf for rate in rates.values()) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(file: Path, data: Mapping[str, object]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    except (OSError, CheckpointError):
        pass  # a cache that cannot be written, as in a read-only home, costs time and no more
