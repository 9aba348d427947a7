"""The command `groundup`: what it prints, and that bad input ends in one line and exit code 2."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup._version import __version__
from groundup.cli import app
from groundup.data import Batches
from groundup.ops import all_ops
from groundup.train import progress

TEXT = "she sells sea shells by the sea shore. the shells she sells are sea shells. " * 30
SMALL = [
    "--n-layer=1", "--n-head=2", "--n-embd=16", "--block-size=16", "--tokenizer=char",
    "--batch-size=4", "--max-iters=6", "--warmup-iters=2", "--eval-interval=3", "--eval-iters=1",
    "--log-interval=1", "--sample-tokens=4",
]  # fmt: skip

Refused = Callable[..., str]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must fail: exit code 2, nothing on stdout, one line on stderr."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert app.run([str(argument) for argument in arguments]) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        return error

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def finished(text: Path) -> Path:
    assert app.run(["train", "--data", str(text), "--out", "done", *SMALL]) == 0
    return Path("done")


# ---- listings ----


def test_backends_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["backends", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    cpu = entries["cpu"]
    assert cpu.keys() == {"name", "available", "reason", "fix", "devices"}
    assert cpu["available"] is True
    assert cpu["devices"][0].startswith("cpu:0")
    assert app.run(["backends"]) == 0
    assert "cpu: available" in capsys.readouterr().out


def test_ops_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["ops", "--json"]) == 0
    rows = {row["op"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == all_ops().keys()
    assert rows["add"]["primitive"] is True
    assert rows["gelu"]["primitive"] is False
    assert rows["matmul"]["family"] == "contraction"
    assert {row["backends"]["cpu"] for row in rows.values()} <= {"native", "composed", "missing"}
    assert rows["reshape"]["backends"]["cpu"] == "native"


def test_ops_as_a_list_and_as_a_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["ops"]) == 0
    listed = capsys.readouterr().out
    assert "\ncontraction: " in listed
    assert app.run(["ops", "--matrix"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["op", "family", "cpu"]
    assert len(lines) == len(all_ops()) + 1
    assert ["matmul", "contraction", "native"] in [line.split()[:3] for line in lines]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__
    for command in ([], ["train"], ["generate"], ["backends"], ["ops"]):
        assert app.run([*command, "--help"]) == 0
        assert "Usage: groundup" in capsys.readouterr().out
    assert app.run(["train", "--help"]) == 0
    assert "--n-layer" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from groundup.cli.app import run; run(['--help']); "
        "print([n for n in ('matplotlib', 'tokenizers', 'safetensors', 'groundup.nn', "
        "'groundup_cpu_ref.device') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


# ---- train and generate ----


def test_train_then_generate(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["generate", str(finished), "--prompt", "she ", "--max-new-tokens", "12"]
    assert app.run([*words, "--seed", "3", "--top-k", "5"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("she ")
    assert len(first) == 4 + 12 + 1
    assert app.run([*words, "--seed=3", "--top_k=5"]) == 0
    assert capsys.readouterr().out == first
    assert (
        app.run(["generate", str(finished), "--max-new-tokens", "3"]) == 2
    )  # no line break in TEXT


def test_both_spellings_and_the_order_of_precedence(text: Path, tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text("n_layer = 3\nn-embd = 32\nmax_iters = 1\neval_iters = 1\n")
    flags = "--n_layer=1 --n-head 2 --block_size 16 --batch-size=2 --sample_tokens 0 --bias=False"
    command = [
        "train",
        "--config",
        str(toml),
        "--data",
        str(text),
        "--out_dir",
        "r",
        *flags.split(),
    ]
    assert app.run([*command, "--tokenizer", "char"]) == 0
    record = json.loads((tmp_path / "r" / "config.json").read_text())["train"]
    assert (record["n_layer"], record["n_embd"], record["bias"]) == (1, 32, False)
    assert record["learning_rate"] == 3e-3  # the preset's


def test_several_data_files(text: Path) -> None:
    other = text.with_name("other.txt")
    other.write_text("XYZ" * 100)
    assert app.run(["train", "--data", str(text), str(other), "--out", "r", *SMALL]) == 0
    assert "X" in json.loads(Path("r/tokenizer.json").read_text())["characters"]


@pytest.mark.parametrize("spelling", ["--resume done", "--resume=done", "--resume --out done"])
def test_resume(finished: Path, spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["train", *spelling.split(), "--max-iters", "8"]) == 0
    assert "resumed at step 6" in capsys.readouterr().out
    steps = [
        json.loads(line)["step"]
        for line in (finished / "metrics.jsonl").read_text().split("\n")
        if line
    ]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]


def test_resuming_what_is_finished(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished)
    assert app.run(["train", "--resume", "done"]) == 0
    assert "nothing is left to do" in capsys.readouterr().out
    assert contents(finished) == before


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("trian", 'Unknown command "trian". Did you mean "train"?'),
        ("train --n-layers 3", "Unknown option: --n-layers. Did you mean --n-layer?"),
        ("train --n_layers=3", "Did you mean --n-layer?"),
        ("train --n-layer three", "unable to convert \"three\" into int"),
        ("train --n-layer", "requires an argument"),
        ("train --n-layer 0", "--n-layer must be at least 1, got 0"),
        ("train --dtype float46", "float32"),
        ("train tinny", "there is no preset 'tinny' (did you mean tiny?)"),
        ("train tiny gpt-12m", "error: unexpected 'gpt-12m'"),
        ("train --bias False", "as in --bias=False"),
        ("train --max-iters 2.5", "unable to convert \"2.5\" into int"),
        ("train --data --seed 1", "--data names no file"),
        ("generate . --max-new-tokens 2.5", "unable to convert \"2.5\" into int"),
        ("generate " + "x" * 300, "File name too long"),
        ("train --resume " + "x" * 300, "File name too long"),
        ("train --device cup", "no backend named 'cup' is installed"),
        ("train --device gpu!", "'gpu!' is not a device"),
        ("train --config none.toml", "cannot read none.toml"),
        ("train --data none.txt", "cannot read none.txt: No such file or directory"),
        ("train --resume nowhere", "nowhere holds no run to resume"),
        ("train --resume", "runs/tiny holds no run to resume"),
        ("generate", "RUN"),
        ("generate nowhere", "there is no folder nowhere"),
        ("generate . --temperature -1", "--temperature must be at least 0"),
        ("generate . --promt x", "Did you mean --prompt?"),
        ("generate .", "holds no model"),
        ("ops --matrixx", "Did you mean --matrix?"),
    ],
)  # fmt: skip
def test_bad_arguments(
    arguments: str, wanted: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert wanted in refused(*arguments.split())
    assert contents(tmp_path) == {}


def test_bad_data(text: Path, tmp_path: Path, refused: Refused) -> None:
    bad = tmp_path / "latin1.txt"
    bad.write_bytes("caf\u00e9".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("too short")
    before = contents(tmp_path)
    assert "latin1.txt is not UTF-8 text: byte 0xe9 at offset 3" in refused("train", "--data", bad)
    assert "empty.txt is empty" in refused("train", "--data", "empty.txt")
    assert f"cannot read {tmp_path}: Is a directory" in refused("train", "--data", tmp_path)
    error = refused("train", "--data", "short.txt", "--tokenizer", "char")
    assert "the training data has 8 tokens, but a context of 64 needs 65" in error
    assert "--block-size" in error
    assert "'chars' is neither" in refused("train", "--data", text, "--tokenizer", "chars")
    assert contents(tmp_path) == before


def test_bad_toml(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "run.toml"
    path.write_text("n_layers = 3")
    error = refused("train", "--config", path)
    assert "unknown setting 'n_layers' (did you mean n_layer" in error


def test_an_out_folder_of_another_run(finished: Path, text: Path, refused: Refused) -> None:
    before = contents(Path.cwd())
    error = refused("train", "--data", text, "--out", "done", *SMALL)
    assert "done holds a run already (continue it with --resume done" in error
    assert "is not empty" in refused("train", "--data", text, "--out", Path.cwd(), *SMALL)
    assert "text.txt is a file" in refused("train", "--out", text)
    assert "a resumed run keeps its --n-layer 1, not 2" in refused(
        "train", "--resume", "done", "--n-layer", "2"
    )
    assert "the run in done goes on where it is, not in --out other" in refused(
        "train", "--resume", "done", "--out", "other"
    )
    assert "did you mean done?" in refused("train", "--resume", "dome")
    assert contents(Path.cwd()) == before


@pytest.mark.parametrize(
    ("name", "damage", "wanted"),
    [
        ("model.safetensors", lambda b: b[:-9], "model.safetensors is damaged"),
        ("model.safetensors", lambda b: b"hello", "model.safetensors is damaged"),
        ("config.json", lambda b: b[:-9], "config.json is damaged"),
        ("config.json", lambda b: b'{"model_type": "llama"}', "this is no GPT-2 (llama)"),
        ("tokenizer.json", lambda b: b"{}", "tokenizer.json holds no tokenizer"),
        ("tokenizer.json", None, "cannot read done/tokenizer.json"),
        ("model.safetensors", None, "cannot read done/model.safetensors"),
    ],
)
def test_damaged_checkpoints(
    finished: Path, refused: Refused, name: str, damage: Any, wanted: str
) -> None:
    path = finished / name
    whole = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage(whole))
    assert wanted in refused("generate", "done", "--prompt", "she")


def test_damaged_state(finished: Path, refused: Refused) -> None:
    path = finished / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    before = contents(finished)
    assert "state.safetensors is damaged" in refused("train", "--resume", "done", "--max-iters", 9)
    assert contents(finished) == before


def test_a_run_without_a_tokenizer(finished: Path, refused: Refused) -> None:
    (finished / "tokenizer.json").unlink()
    assert "only if it was given with --tokenizer" in refused("generate", "done")


def test_a_size_that_no_memory_has(
    text: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batch(self: Batches, step: int) -> None:
        np.empty(2**61, np.uint8)  # what a --batch-size of 10^15 asks for

    monkeypatch.setattr(Batches, "batch", batch)
    monkeypatch.setattr(progress.Lines, "say", lambda self, text: None)
    error = refused("train", "--data", text, "--out", "r", *SMALL)
    assert error.startswith("error: out of memory: Unable to allocate")


def test_flags_of_truth(text: Path) -> None:
    command = ["train", "--data", str(text), *SMALL]
    assert app.run([*command, "--out", "a", "--no-bias", "--no_decay_lr"]) == 0
    record = json.loads(Path("a/config.json").read_text())["train"]
    assert (record["bias"], record["decay_lr"]) == (False, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("command", ["ops", "--help", "train --out r", "generate done"])
def test_a_full_stdout_is_one_line(finished: Path, text: Path, command: str) -> None:
    """In a process of its own, where Python flushes stdout once more at its end."""
    arguments = command.split()
    arguments += ["--data", str(text), *SMALL] if "train" in arguments else []
    arguments += ["--prompt", "she"] if "generate" in arguments else []
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "groundup", *arguments], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(r"error: cannot .*standard output: No space left.*\n", done.stderr)


def test_a_closed_stdout_is_no_error(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert app.run(["ops"]) == 0
    assert app.run(["generate", "done", "--prompt", "she", "--max-new-tokens", "2"]) == 0
    assert app.run(["train", "--resume", "done", "--max-iters", "7"]) == 0


def test_a_reader_of_training_that_went_away(text: Path) -> None:
    """The run stops with an error, as its saved state is older than what was printed."""
    command = [sys.executable, "-m", "groundup", "train", "--data", str(text), "--out", "r"]
    process = subprocess.Popen(
        [*command, *SMALL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.startswith("error: cannot write to standard output: Broken pipe (")
    assert error.count("\n") == 1


def test_a_full_disk_is_one_line(text: Path) -> None:
    """In a process of its own: the limit is the process's, and so is what it prints."""
    pytest.importorskip("resource", reason="file size limits are POSIX")
    code = (
        "import resource, sys; from groundup.cli.app import run; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY)); "
        "sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", "--data", str(text), "--out", "full", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write full/")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDUP_DEBUG", "1")
    with pytest.raises(Exception, match="no preset"):
        app.run(["train", "nothing"])


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("groundup")
    done = subprocess.run([command, "train", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no preset 'nope'")


def test_a_reader_that_went_away() -> None:
    """`groundup ops | head -1` is no error."""
    command = (
        f"{sys.executable} -c 'from groundup.cli.app import main; main()' ops --json | head -1"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


# ---- plugins ----


def test_plugins_add_commands_and_harm_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fake:
        def call(self, hook: str, **arguments: Any) -> None:
            assert hook == "groundup_commands"

            @arguments["app"].command
            def greet(name: str) -> None:
                """Greet."""
                print(f"hello {name}")

    monkeypatch.setattr(app, "plugins", Fake)
    assert app.run(["greet", "you"]) == 0
    assert capsys.readouterr().out == "hello you\n"
