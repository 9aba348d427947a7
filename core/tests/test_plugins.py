"""Plugins are installed for real, as packages on a path of their own, in a process of their own.

Beside each broken one stands `toy`, a plugin with nothing wrong: whatever the other does, `toy`
must work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

BACKEND = '''
"""A backend that stores, and computes nothing."""

import numpy as np

import groundup.backends.api as api
from groundup.backends.hookspecs import hookimpl
from groundup.dtypes import float32


class ToyDevice(api.Device):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def allocate(self, nbytes):
        return bytearray(nbytes)

    def write(self, view, array):
        view.buffer[:] = array.tobytes()

    def read(self, view):
        return np.frombuffer(view.buffer, np.float32).reshape(view.layout.shape)

    def kernel(self, op, inputs, outputs):
        return api.Declined("it has no kernels")

    def synchronize(self):
        pass

    def memory(self):
        return api.MemoryStats(0, 0, 0)

    def describe(self):
        return api.DeviceInfo(self.name, "a toy", {float32: frozenset({"store"})})


class Toy(api.Backend):
    name = NAME
    api_version = (1, 0)
    priority = PRIORITY

    def probe(self):
        return api.Available(["toy 0", "toy 1"])

    def open(self, index):
        return ToyDevice(f"{NAME}:{index}")


@hookimpl
def groundup_backends():
    return Toy()
'''

REPORT = """
import json
import logging
logging.disable()
from groundup.backends.devices import device_for
from groundup.backends.installed import backends, kernels_for, problems
from groundup.errors import GroundupError

def refused(spec):
    try:
        device_for(spec)
    except GroundupError as error:
        return [type(error).__name__, str(error), repr(error.__cause__)]
    return None

result = {"toy": device_for("toy:1").info.name}
EXTRA
result["problems"] = [
    [problem.name, problem.distribution, problem.stage, problem.reason, problem.fix]
    for problem in problems()
    if not problem.distribution.startswith("groundup")  # theirs is the last test
]
result["backends"] = {
    name: [entry.distribution, type(entry.probe()).__name__] for name, entry in backends().items()
}
print(json.dumps(result))
"""


class Site:
    """A folder of installed packages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.install("toy-backend", "toy", backend("toy"))

    def install(self, distribution: str, plugin: str, source: str) -> None:
        module = distribution.replace("-", "_")
        (self.path / f"{module}.py").write_text(dedent(source))
        info = self.path / f"{module}-1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(f"[groundup]\n{plugin} = {module}\n")

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GROUNDUP_")}
        return subprocess.run(
            [sys.executable, "-c", dedent(code)],
            env={**inherited, "PYTHONPATH": str(self.path), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def report(self, extra: str = "", **environment: str) -> Any:
        """What the loader says; checks that `toy` works all the same."""
        done = self.run(REPORT.replace("EXTRA", dedent(extra)), **environment)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["toy"] == "toy:1"
        assert result["backends"]["toy"] == ["toy-backend", "Available"]
        return result


def backend(name: str, priority: int = 1) -> str:
    return BACKEND.replace("NAME", repr(name)).replace("PRIORITY", str(priority))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_sound_plugin_has_no_problems(site: Site) -> None:
    result = site.report("result['ghost'] = refused('toyy')")
    assert result["problems"] == []
    kind, text, _ = result["ghost"]
    assert kind == "BackendUnavailable"
    assert "no backend named 'toyy' is installed" in text
    assert "did you mean toy?" in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import no_such_module_here",
            "ModuleNotFoundError: No module named 'no_such_module_here'",
        ),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
        (
            "from groundup.backends.devices import device_for; device_for('toy')",
            "plugin used a device while",
        ),
    ],
)
def test_a_plugin_that_raises_at_import(site: Site, source: str, said: str) -> None:
    site.install("bad-gpu", "gpu", source)
    result = site.report("result['gpu'] = refused('gpu')")
    [[name, distribution, stage, reason, fix]] = result["problems"]
    assert (name, distribution, stage) == ("gpu", "bad-gpu", "import")
    assert said in reason
    assert "bad-gpu" in fix
    assert result["backends"]["gpu"] == ["bad-gpu", "Unavailable"]
    kind, text, cause = result["gpu"]
    assert kind == "BackendUnavailable"
    assert text == f"gpu: {reason} ({fix})"
    assert reason.split(" raised ")[1].split(":")[0] in cause


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ("raise RuntimeError('driver\\nis old')", "its probe raised RuntimeError: driver"),
        ("return None", "its probe returned None instead of Available or Unavailable"),
        ("return api.Available([])", "its probe found no device"),
        ("return api.Unavailable('no driver', 'apt install it')", "no driver"),
    ],
)
def test_a_probe_always_answers(site: Site, probe: str, said: str) -> None:
    source = backend("gpu", priority=999).replace('return api.Available(["toy 0", "toy 1"])', probe)
    site.install("bad-gpu", "gpu", source)
    result = site.report(
        """
        result["gpu"] = refused("gpu")
        result["default"] = device_for().info.name
        """,
        GROUNDUP_PLUGINS="toy,gpu",
    )
    assert result["problems"] == []  # an honest "not here" is no fault of the plugin
    assert result["default"] == "toy:0"
    kind, text, _ = result["gpu"]
    assert (kind, text.startswith(f"gpu: {said}")) == ("BackendUnavailable", True), text
    assert "\n" not in text


def test_a_device_that_does_not_open(site: Site) -> None:
    broken = backend("gpu").replace('return ToyDevice(f"', 'raise OSError(f"no node for ')
    site.install("bad-gpu", "gpu", broken)
    result = site.report(
        """
        result["gpu"] = refused("gpu")
        result["toy:2"] = refused("toy:2")
        """
    )
    kind, text, cause = result["gpu"]
    assert kind == "BackendUnavailable"
    assert text.startswith("gpu:0 could not be opened: OSError: no node for gpu:0")
    assert cause.startswith("OSError")
    assert result["toy:2"][:2] == [
        "BackendUnavailable",
        "there is no toy:2 (this machine has toy:0 to toy:1)",
    ]


def test_a_misspelt_hook(site: Site) -> None:
    site.install(
        "bad-gpu", "gpu", backend("gpu").replace("def groundup_backends", "def groundup_backend")
    )
    result = site.report("result['gpu'] = refused('gpu')")
    [[name, _, stage, reason, fix]] = result["problems"]
    assert (name, stage) == ("gpu", "hooks")
    assert reason == "there is no hook groundup_backend, it is never called"
    assert fix.startswith("did you mean groundup_backends")
    assert "gpu" not in result["backends"]
    assert "there is no hook groundup_backend" in result["gpu"][1]


def test_a_hook_with_an_unknown_argument(site: Site) -> None:
    source = backend("gpu").replace("groundup_backends()", "groundup_backends(config)")
    site.install("bad-gpu", "gpu", source)
    result = site.report()
    [[name, _, stage, reason, _]] = result["problems"]
    assert (name, stage) == ("gpu", "register")
    assert "config" in reason
    assert "gpu" in result["backends"]


def test_a_hook_that_raises(site: Site) -> None:
    site.install("bad-gpu", "gpu", backend("gpu").replace("return Toy()", "return 1 / 0"))
    [[name, _, stage, reason, _]] = site.report()["problems"]
    assert (name, stage) == ("gpu", "backend")
    assert reason == "groundup_backends raised ZeroDivisionError: division by zero"


@pytest.mark.parametrize("value", ["Toy", "'gpu'", "[42]"])
def test_a_hook_that_returns_no_backend(site: Site, value: str) -> None:
    site.install("bad-gpu", "gpu", backend("gpu").replace("return Toy()", f"return {value}"))
    [[name, _, stage, reason, _]] = site.report()["problems"]
    assert (name, stage) == ("gpu", "backend")
    assert "is not a Backend with a name" in reason


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("priority = None", "the backend 'gpu' has no priority, an integer"),
        ("priority = 1; name = 'my gpu'", "'my gpu' cannot be the name of a backend"),
        ("priority = property(lambda self: 1 / 0)", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_backend_with_odd_attributes(site: Site, line: str, said: str) -> None:
    site.install("bad-gpu", "gpu", backend("gpu").replace("priority = 1", line))
    [[name, _, stage, reason, _]] = site.report()["problems"]
    assert (name, stage) == ("gpu", "backend")
    assert reason.startswith(said)


@pytest.mark.parametrize(
    ("version", "reason", "fix"),
    [
        (
            "(1, 2)",
            "it needs backend API 1.2, this groundup has 1.1",
            "pip install --upgrade groundup",
        ),
        (
            "(2, 0)",
            "it needs backend API 2.0, this groundup has 1.1",
            "pip install --upgrade groundup",
        ),
        (
            "(0, 9)",
            "it needs backend API 0.9, this groundup has 1.1",
            "pip install --upgrade bad-gpu",
        ),
        (
            "'1.0'",
            "its api_version is '1.0', not two integers",
            "update, report or uninstall bad-gpu",
        ),
    ],
)
def test_another_api_version(site: Site, version: str, reason: str, fix: str) -> None:
    site.install("bad-gpu", "gpu", backend("gpu").replace("(1, 0)", version))
    result = site.report("result['gpu'] = refused('gpu')")
    assert result["problems"] == [["gpu", "bad-gpu", "backend", reason, fix]]
    assert result["gpu"][:2] == ["BackendUnavailable", f"gpu: {reason} ({fix})"]


def test_two_plugins_of_one_name(site: Site) -> None:
    site.install("zz-toy", "toy", backend("toy"))
    [[name, distribution, stage, reason, fix]] = site.report()["problems"]
    assert (name, distribution, stage) == ("toy", "zz-toy", "select")
    assert reason == "a second plugin of the name 'toy'; the one of toy-backend is used"
    assert fix == "pip uninstall zz-toy or toy-backend"


def test_two_backends_of_one_name(site: Site) -> None:
    site.install("zz-toy", "zz", backend("toy"))
    [[name, distribution, stage, reason, _]] = site.report()["problems"]
    assert (name, distribution, stage) == ("zz", "zz-toy", "backend")
    assert reason == "a second backend of the name 'toy'; the one of toy-backend is used"


def test_a_stranger_cannot_take_the_name_of_the_projects_own_backend(site: Site) -> None:
    site.install("aaa-evil", "cpu", backend("cpu"))
    result = site.report()
    assert result["backends"]["cpu"][0] == "groundup-cpu-ref"


def test_groundup_plugins_limits_what_is_loaded(site: Site) -> None:
    site.install("bad-gpu", "gpu", "raise ValueError")
    result = site.report("result['gpu'] = refused('gpu')", GROUNDUP_PLUGINS="toy, tpu")
    [[name, _, stage, reason, _]] = result["problems"]
    assert (name, stage) == ("tpu", "select")
    assert reason == "GROUNDUP_PLUGINS names it, but no such plugin is installed"
    assert sorted(result["backends"]) == ["null", "toy"]
    assert result["gpu"][1] == "gpu: left out by GROUNDUP_PLUGINS (add gpu to GROUNDUP_PLUGINS)"


def test_problems_are_logged_where_nobody_asks_for_them(site: Site) -> None:
    site.install("bad-gpu", "gpu", "import no_such_module_here")
    code = "from groundup.backends.devices import device_for; device_for('toy')"
    done = site.run(code, GROUNDUP_PLUGINS="toy,gpu")
    assert done.returncode == 0
    assert "plugin gpu (bad-gpu): importing bad_gpu raised ModuleNotFoundError" in done.stderr


def test_nothing_is_loaded_at_import(site: Site) -> None:
    site.install("loud-gpu", "gpu", "print('loaded')")
    done = site.run("import groundup.backends.devices", GROUNDUP_PLUGINS="gpu")
    assert (done.returncode, done.stdout) == (0, "")


# ---- kernels for another's backend ----

KERNELS = """
import groundup.backends.api as api
from groundup.backends.hookspecs import hookimpl

class Fast(api.Kernel):
    params = frozenset({"axis"})

    def bind(self, inputs, outputs, workspace=None):
        return lambda: None

def factory(device, op, inputs, outputs):
    FACTORY

@hookimpl
def groundup_kernels(backend_name):
    if backend_name == "toy":
        return api.Kernels({"twice": factory}, provider=PROVIDER, priority=PRIORITY)
"""

ASK = """
from groundup.ops.op import Op

class Twice(Op):
    name = "twice"
    axis: int = 0
    mode: str = "plain"

def ask(**params):
    toy = device_for("toy:1")
    try:
        return toy.overrides["twice"].choose(toy, Twice(**params), (), ())[0]
    except GroundupError as error:
        return f"{type(error).__name__}: {error}"
result["chosen"] = ask()
result["unknown parameter"] = ask(mode="odd")
result["cpu"] = sorted(kernels_for("cpu"))
"""


def kernels(provider: str, priority: int, factory: str = "return Fast()") -> str:
    source = KERNELS.replace("FACTORY", factory).replace("PROVIDER", repr(provider))
    return source.replace("PRIORITY", str(priority))


def test_kernels_for_anothers_backend(site: Site) -> None:
    site.install("fast-one", "one", kernels("fast-one", 100))
    site.install("fast-two", "two", kernels("fast-two", 200))
    site.install("choosy", "three", kernels("choosy", 300, "return api.Declined('too small')"))
    result = site.report(ASK)
    assert result["problems"] == []
    assert result["chosen"] == "fast-two"  # choosy declined
    assert result["unknown parameter"] == "toy"  # nobody else knows `mode`
    assert result["cpu"] == []


def test_kernels_below_zero_only_fill_gaps(site: Site) -> None:
    site.install("slow", "slow", kernels("slow", -1))
    assert site.report(ASK)["chosen"] == "slow"


@pytest.mark.parametrize(("priority", "rival"), [(100, "fast-one"), (0, "toy itself")])
def test_a_tie_of_kernels_is_an_error_of_that_op(site: Site, priority: int, rival: str) -> None:
    site.install("fast-one", "one", kernels("fast-one", 100))
    site.install("fast-two", "two", kernels("fast-two", priority))
    result = site.report(ASK)
    said = f"twice: the kernels for toy of {rival} and fast-two have the same priority {priority}"
    [[name, distribution, stage, reason, _]] = result["problems"]
    assert (name, distribution, stage, reason) == ("two", "fast-two", "kernels", said)
    assert result["chosen"].startswith(f"PluginError: {said}")


def test_kernels_that_are_none(site: Site) -> None:
    source = kernels("fast-one", 100).split("    if backend_name")[0]
    site.install("fast-one", "one", source + "    return 42\n")
    [[name, _, stage, reason, _]] = site.report()["problems"]
    assert (name, stage) == ("one", "kernels")
    assert reason == "groundup_kernels gave 42, which is not a Kernels with a table"


def test_kernels_for_an_op_that_does_not_exist(site: Site) -> None:
    site.install("fast-one", "one", kernels("fast-one", 100))
    code = """
        from groundup.backends.installed import check_kernel_names
        result["none"] = len(check_kernel_names("toy", ["twice"]))
        check_kernel_names("toy", ["twine", "add"])
    """
    result = site.report(code)
    assert result["none"] == 0
    [[name, _, stage, reason, fix]] = result["problems"]
    assert (name, stage) == ("one", "kernels")
    assert reason == "its kernel for toy is of an op 'twice' that does not exist"
    assert fix == "did you mean twine?"


def test_a_kernel_factory_that_raises(site: Site) -> None:
    site.install("fast-one", "one", kernels("fast-one", 100, "raise KeyError('shape')"))
    said = "PluginError: twice: the kernel factory of fast-one raised KeyError: 'shape'"
    assert site.report(ASK)["chosen"].startswith(said)


def test_the_projects_own_plugins_have_no_problems() -> None:
    from groundup.backends.installed import backends, problems

    assert [str(problem) for problem in problems()] == []
    assert {"cpu", "null"} <= set(backends())
