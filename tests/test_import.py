"""`import groundup` stays cheap: what is heavy is imported by those who use it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ["cyclopts", "rich", "matplotlib", "safetensors", "tokenizers", "torch", "groundup_cpu_ref"]


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, groundup; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
