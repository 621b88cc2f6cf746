"""What the serving tests share: a real tritonserver, clients of it, and the digits network in every form."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.ops.library import onnxruntime_module, open_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMS = {"float": None, "fake_quant": "fake_quant", "deploy": "ascend", "ort": "ort", "qdq": "qdq"}


@pytest.fixture(scope="session")
def triton_environment():
    """The environment of the development server, made once a machine; skips where there can be none."""
    pytest.importorskip("tritonclient", reason="tritonclient is not installed")
    from ort_quant_plugin.triton.server import ensure_environment

    try:
        return ensure_environment()
    except TritonError as error:
        pytest.skip(f"no development server: {error}")


@pytest.fixture(scope="module")
def serve(triton_environment, tmp_path_factory):
    """Start a server on a repository; it ends with the module. Keyword arguments are :class:`DevServer`'s."""
    from ort_quant_plugin.triton.server import DevServer

    with ExitStack() as stack:

        def _serve(repository, **options):
            options.setdefault("log", tmp_path_factory.mktemp("log") / "server.log")
            options.setdefault("auto_complete", False)  # loads in half the time
            server = DevServer(repository, environment=triton_environment, **options)
            stack.callback(server.kill)  # an orderly stop takes seconds, and has tests of its own
            return server.start()

        yield _serve


@pytest.fixture(scope="module")
def connect(serve):
    """A client of a server, http unless told otherwise; closed before the server stops."""
    from ort_quant_plugin.triton.client import connect

    with ExitStack() as stack:

        def _connect(server, protocol="http", **options):
            url = server.grpc_url if protocol == "grpc" else server.http_url
            return stack.enter_context(connect(url, protocol=protocol, **options))

        yield _connect


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The digits network: `models` by form (float, fake_quant, deploy, ort, qdq), `images`, `labels`, names.

    `answer(form, images)` is what ONNX Runtime gives here, with the optimizations the templates ask for; `optimize`
    says otherwise.
    """
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    targets = [target for target in FORMS.values() if target]
    report = oq.quantize(
        demo_model_path(), data.calibration, folder / "digits", targets=targets, batch_size=20, progress=False
    )
    models = {form: report.outputs[target] if target else demo_model_path() for form, target in FORMS.items()}
    sessions = {}

    def _answer(form: str, images: np.ndarray, *, optimize: bool | None = None) -> np.ndarray:
        optimize = form != "fake_quant" if optimize is None else optimize
        if (form, optimize) not in sessions:
            sessions[form, optimize] = open_session(
                models[form], optimize=optimize, threads=1, run_deploy_models=form == "deploy"
            )
        return sessions[form, optimize].run(["logits"], {"image": images})[0]

    return SimpleNamespace(
        models=models, images=data.evaluation, labels=data.labels, input="image", output="logits", answer=_answer
    )


@pytest.fixture(scope="session")
def same_runtime(triton_environment):
    """Skips where the server has not the ONNX Runtime of the tests: another version may round otherwise."""
    ours = onnxruntime_module().__version__
    if triton_environment.onnxruntime != ours:
        pytest.skip(f"the server runs ONNX Runtime {triton_environment.onnxruntime}, the tests {ours}")


@pytest.fixture
def tree():
    """Contents of a folder, by relative path: two folders are the same if these are."""

    def _tree(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return _tree


@pytest.fixture(scope="session")
def soak_seconds():
    """How long load is kept up: seconds of `ORT_QUANT_SOAK_SECONDS`, 8 unless it is set."""
    return float(os.environ.get("ORT_QUANT_SOAK_SECONDS", "8"))


@dataclass
class Load:
    """Clients that ask for digits without a pause and judge every answer.

    Attributes:
        answers: Right answers so far, by client.
        wrong: What was wrong, and errors that should not have been.
    """

    server: Any
    digits: Any
    forms: Sequence[str]
    clients: int = 4
    patience: float = 60.0
    answers: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        images = self.digits.images[:64]
        self._references = {form: self.digits.answer(form, images) for form in self.forms}
        self._stop = threading.Event()
        self.answers = [0] * self.clients
        self._threads = [threading.Thread(target=self._ask, args=[number]) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def run(self, seconds: float) -> None:
        """Let them ask for a while; ends early when something was wrong."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.wrong:
            time.sleep(0.05)

    def each_gets(self, answers: int, seconds: float = 60) -> bool:
        """Wait until each client got so many more right answers; not so if it takes longer or something was wrong."""
        aims, end = [count + answers for count in self.answers], time.monotonic() + seconds
        while not self.wrong and time.monotonic() < end:
            if all(count >= aim for count, aim in zip(self.answers, aims, strict=True)):
                return True
            time.sleep(0.05)
        return False

    def _ask(self, number: int) -> None:
        from ort_quant_plugin.triton.client import connect

        rng = np.random.default_rng(number)
        protocol = ("http", "grpc")[number % 2]
        url = self.server.http_url if protocol == "http" else self.server.grpc_url
        try:
            with connect(url, protocol=protocol, patience=self.patience) as client:
                while not self._stop.is_set():
                    self._ask_once(client, rng)
                    self.answers[number] += 1
        except Exception as error:  # a thread's failure must fail the test, whatever it is
            self.wrong.append(f"client {number} ({protocol}): {type(error).__name__}: {error}")

    def _ask_once(self, client: Any, rng: np.random.Generator) -> None:
        form = str(rng.choice(self.forms))
        start, size = int(rng.integers(0, 56)), int(rng.integers(1, 9))
        answer = client.infer(form, {self.digits.input: self.digits.images[start : start + size]})
        logits, expected = answer[self.digits.output], self._references[form][start : start + size]
        if logits.dtype != expected.dtype or not np.array_equal(logits, expected):
            self.wrong.append(f"{form}, images {start} to {start + size - 1}: {logits} instead of {expected}")


@pytest.fixture
def load(digits):
    """Keep a server under load: ``with load(server, ["ort"]) as clients: clients.run(seconds)``."""

    def _load(server, forms, **options):
        return Load(server, digits, forms, **options)

    return _load


@pytest.fixture(scope="session")
def wait_until():
    """Wait for a condition, 10 seconds unless told otherwise; whether it came."""

    def _wait(condition, seconds: float = 10) -> bool:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)
        return bool(condition())

    return _wait
