"""Passes: pure functions `Program -> Program`, each in a file of its own.

A pass must keep what the program computes, bit for bit, unless its docstring says otherwise; values
keep their identity where they stay as they were. `optimize` verifies the program after every pass,
so a pass that breaks one is named. Write one with `rewriting.Rewriter`; plugins bring theirs by the
hook `groundup_passes`, which run after those of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from groundup.backends.plugins import one_line, plugins
from groundup.errors import PluginError, ProgramError
from groundup.program.passes.casts import absorb_casts, gather_casts
from groundup.program.passes.composites import recognize_composites
from groundup.program.passes.copies import remove_copies
from groundup.program.passes.dead_code import remove_dead_code
from groundup.program.passes.folding import fold_constants
from groundup.program.passes.fusion import fuse_elementwise
from groundup.program.passes.identities import apply_identities
from groundup.program.passes.recomputation import recompute_cheap_values
from groundup.program.passes.setup import move_to_setup
from groundup.program.passes.subexpressions import merge_subexpressions
from groundup.program.passes.windows import simplify_views
from groundup.program.program import Program, verify

Pass: TypeAlias = Callable[[Program], Program]

# In this order: identities and merging leave values unused, which the last one removes. The results
# are those of the eager function to the bit, on every backend.
EXACT: Final[tuple[Pass, ...]] = (
    remove_dead_code,
    merge_subexpressions,
    fold_constants,
    apply_identities,
    remove_copies,
    simplify_views,
    move_to_setup,
    merge_subexpressions,
    remove_dead_code,
)
# What follows by default: results within the accuracy of the ops that these make.
FUSING: Final[tuple[Pass, ...]] = (
    recognize_composites,
    recompute_cheap_values,
    fuse_elementwise,
    absorb_casts,
    gather_casts,
)
PASSES: Final[tuple[Pass, ...]] = (*EXACT, *FUSING)


def optimize(program: Program, passes: Sequence[Pass] = PASSES) -> Program:
    """The program after `passes`, then after those of plugins.

    Raises ProgramError if a pass of the core breaks it, PluginError if one of a plugin does.
    """
    verify(program)
    for each in passes:
        program = _run(each, program)
    for plugin, each in plugin_passes():
        try:
            program = _run(each, program)
        except Exception as error:
            hint = f"leave {plugin} out with GROUNDUP_PLUGINS"
            raise PluginError(f"{plugin}: {_name(each)}: {one_line(error)}", hint=hint) from error
    return program


def plugin_passes() -> list[tuple[str, Pass]]:
    """The passes that plugins bring, with the plugin's name."""
    found: list[tuple[str, Pass]] = []
    loaded = plugins()
    for answer in loaded.call("groundup_passes", stage="passes"):
        given: Any = answer.value
        if isinstance(given, Sequence) and all(callable(each) for each in given):
            found += [(answer.plugin, each) for each in given]
        else:
            reason = f"groundup_passes gave {given!r}, not a sequence of functions"
            loaded.report(answer.plugin, "passes", reason)
    return found


def _run(each: Pass, program: Program) -> Program:
    changed = each(program)
    if not isinstance(changed, Program):
        raise ProgramError(f"the pass {_name(each)} gave {type(changed).__name__}, no Program")
    try:
        return verify(changed)
    except ProgramError as error:
        raise ProgramError(f"after the pass {_name(each)}: {error.message}") from error


def _name(each: Pass) -> str:
    return getattr(each, "__name__", repr(each))
