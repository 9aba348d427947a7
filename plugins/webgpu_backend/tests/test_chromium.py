"""A headless Chromium replays tapes; what it computes is judged as the conformance suite does."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup import dispatch, nn, optim
from groundup.backends.api import Device
from groundup.backends.devices import by_default
from groundup.dtypes import float32
from groundup.errors import UnsupportedDtype
from groundup.models.gpt import GPT, GPTConfig
from groundup.ops import REGISTRY
from groundup.ops.op import Op
from groundup.ops.samples import Case, cases_of
from groundup.tensor import Tensor
from groundup_conformance.judging import judge_arrays
from groundup_conformance.oracle import WGSL, forward
from groundup_webgpu.machine import Machine
from groundup_webgpu.tape import Tape, TapeDevice

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# SwiftShader computes where there is no GPU; root may not have a sandbox.
FLAGS = (
    "--headless=new", "--no-sandbox", "--enable-unsafe-webgpu", "--no-first-run",
    "--use-webgpu-adapter=swiftshader", "--disable-gpu-watchdog", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage",
)  # fmt: skip
WAIT = 300  # seconds


class Page(SimpleHTTPRequestHandler):
    """Serves a folder; what is posted goes into a queue."""

    def __init__(self, posted: Queue[tuple[str, bytes]], *args: Any, **kwargs: Any) -> None:
        self.posted = posted
        super().__init__(*args, **kwargs)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.posted.put((self.path, body))

    def log_message(self, *_: Any) -> None:
        pass


def replayed(tape: Tape, folder: Path) -> list[np.ndarray]:
    """What the tape's reads give in Chromium."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("needs Chromium: apt install chromium")
    site, profile = folder / "site", folder / "profile"
    site.mkdir()
    tape.save(site)
    posted: Queue[tuple[str, bytes]] = Queue()
    handler = partial(Page, posted, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/index.html?report"
        command = [browser, *FLAGS, f"--user-data-dir={profile}", address]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            try:
                path, body = posted.get(timeout=WAIT)
            except Empty:
                process.kill()
                pytest.fail(f"nothing in {WAIT} s: {process.stderr.read()[-2000:]!r}")
            finally:
                process.kill()
                server.shutdown()
    assert path == "/results", body.decode()
    return tape.arrays(body)


def first_sample(op: type[Op], device: Device) -> tuple[Case, Sequence[Tensor]] | None:
    """The first sample of an op in what the device stores, in float32 if it can be; its results."""
    for case in cases_of(op, float32 if float32 in op.dtypes else op.dtypes[0]):
        try:
            inputs = tuple(x.view(g.from_numpy(x.base, device)) for x in case.inputs)
            found = dispatch.apply(case.op, inputs, device)
        except UnsupportedDtype:
            continue
        return case, found if isinstance(found, tuple) else (found,)
    return None


@pytest.mark.parametrize(
    "software", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["software", "gpu"]
)
def test_every_op(tmp_path: Path, software: bool) -> None:
    """All in one page, by the kernels for software drivers and those for a GPU."""
    device = TapeDevice(Machine(software=software))
    samples = [found for op in REGISTRY.values() if (found := first_sample(op, device))]
    for _, tensors in samples:
        for y in tensors:
            y.numpy()
    assert {case.op.family for case, _ in samples} == {op.family for op in REGISTRY.values()}
    arrays = iter(replayed(device.tape, tmp_path))
    for case, tensors in samples:
        wanted = forward(case.op, [x.array for x in case.inputs], WGSL)
        judge_arrays(case.op, [next(arrays) for _ in tensors], wanted)


def losses(device: Device) -> list[Tensor]:
    """Of a compiled step of training, from the same weights on every device."""
    with by_default(device):
        g.manual_seed(3)
        config = GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=16, vocab_size=40)
        model = GPT(config)
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        def step(ids: Tensor, wanted: Tensor) -> Tensor:
            logits = model(ids).reshape(-1, config.vocab_size)
            loss = nn.functional.cross_entropy(logits, wanted.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        compiled = g.compile(step)
        text = np.random.default_rng(4).integers(0, 40, (4, 17)).astype(np.int32)
        ids, wanted = (g.from_numpy(x.copy(), device) for x in (text[:, :-1], text[:, 1:]))
        return [compiled(ids, wanted) for _ in range(20)]


def test_training(tmp_path: Path) -> None:
    device = TapeDevice(Machine(software=True))
    for loss in losses(device):
        loss.detach().numpy()
    found = [float(loss) for loss in replayed(device.tape, tmp_path)]
    wanted = [loss.item() for loss in losses(g.device_for("cpu"))]
    assert wanted[-1] < wanted[0] - 1, "it learns"
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
