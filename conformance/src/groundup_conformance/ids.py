"""Names of cases: `op[dtype,case,layout,variant]`. Such a name is a filter, and seeds its case."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import attrs

from groundup.errors import ConfigError

_FORM = re.compile(r"(?P<op>[^\[\]]+)\[(?P<rest>.*)\]", re.DOTALL)


@attrs.frozen
class CaseId:
    """One case of the suite.

    `case` names the sample, `layout` how its inputs lie in memory, `variant` what is asked of it.
    """

    op: str
    dtype: str
    case: str
    layout: str = "given"
    variant: str = "forward"

    def __str__(self) -> str:
        return f"{self.op}[{self.dtype},{self.case},{self.layout},{self.variant}]"

    @property
    def seed(self) -> int:
        """What random numbers of the case start from: the same on every machine."""
        return zlib.crc32(str(self).encode())


def parse(text: str) -> CaseId:
    """The parts of a name; the case itself may hold commas. Raises ConfigError."""
    match = _FORM.fullmatch(text)
    parts = match["rest"].split(",") if match else []
    if match is None or len(parts) < 4:
        raise ConfigError(
            f"{text!r} names no case", hint="the form is op[dtype,case,layout,variant]"
        )
    return CaseId(match["op"], parts[0], ",".join(parts[1:-2]), parts[-2], parts[-1])


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern: `*` is any text, `?` any character, all else itself.

    Brackets mean nothing special, since every name has them. Alternatives are divided by spaces;
    by commas too (`matmul,conv*`), unless there are brackets, which hold commas.
    """
    return any(glob.fullmatch(name) for glob in _globs(pattern))


def may_be_of(pattern: str, op: str) -> bool:
    """Whether a pattern of names may fit one of an op's cases."""
    return any(
        "*" in part.partition("[")[0] or matches(op, part.partition("[")[0])
        for part in _alternatives(pattern)
    )


@lru_cache(maxsize=256)
def _globs(pattern: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_translated(part), re.DOTALL) for part in _alternatives(pattern))


def _alternatives(pattern: str) -> list[str]:
    commas = "" if "[" in pattern or "]" in pattern else ","
    return [part for part in re.split(rf"[\s{commas}]+", pattern) if part]


def _translated(glob: str) -> str:
    wild = {"*": ".*", "?": "."}
    return "".join(wild.get(character) or re.escape(character) for character in glob)
