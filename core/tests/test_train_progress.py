"""What a run shows: a bar on a terminal, lines elsewhere."""

import os
import subprocess
import sys

import pytest

from groundup.train.progress import Bar, Lines, clock, progress

LINE = {"step": 5, "loss": 3.25, "val_loss": 3.5, "lr": 1e-3, "tokens_per_second": 12345.6}


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    shown = progress(10, 0)
    assert isinstance(shown, Lines)  # pytest captures stdout: it is no terminal
    with shown:
        shown.say("begin")
        shown.show(LINE)
    begin, line = capsys.readouterr().out.splitlines()
    assert begin == "begin"
    assert line == "step 5/10  loss 3.2500  val 3.5000  lr 1.0e-03  12,346 tok/s  eta 0:00"


def test_bar(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Bar(10, 2)
    shown.say("before [bold]")
    with shown:
        shown.show(LINE)
        shown.say("between")
    printed = capsys.readouterr().out
    assert "before [bold]" in printed
    assert printed.index("before") < printed.index("between") < printed.rindex("loss 3.2500")
    assert "5/10" in printed


def test_a_terminal_gets_the_bar() -> None:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are POSIX")
    code = "from groundup.train.progress import progress; print(type(progress(1, 0)).__name__)"
    leader, follower = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=follower)
    assert process.wait(timeout=60) == 0
    os.close(follower)
    assert os.read(leader, 100).strip() == b"Bar"
    os.close(leader)


def test_clock() -> None:
    assert [clock(s) for s in (0, 5.4, 65, 7384)] == ["0:00", "0:05", "1:05", "2:03:04"]
