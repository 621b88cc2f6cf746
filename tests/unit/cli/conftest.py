"""A runner for the command line, and the shipped digits quantized once."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner

from ort_quant_plugin.cli.main import cli
from ort_quant_plugin.demo import demo_model_path, load_digits


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture(scope="session")
def ort_quant():
    """Run ``ort-quant``; the exit code must be the expected one, and no traceback may show."""

    def run(*args, code=0, env=None):
        environment = {"COLUMNS": None, **(env or {})}  # a width of the machine running the tests must not matter
        result = CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="ort-quant", env=environment)
        outcome = Outcome(result.exit_code, result.stdout, result.stderr)
        assert outcome.code == code, outcome
        assert "Traceback" not in outcome.err
        if code == 2:
            assert outcome.out == ""
            assert "error: " in outcome.err
            assert "hint: " in outcome.err
        return outcome

    return run


@dataclass
class Digits:
    model: str
    calibration: str
    evaluation: str
    labels: str
    record: str
    outputs: dict[str, str]
    report: dict


@pytest.fixture(scope="session")
def digits(tmp_path_factory, ort_quant):
    """The demo model, its data as .npy, and what ``quantize`` made of it."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    np.save(folder / "calibration.npy", data.calibration)
    np.save(folder / "evaluation.npy", data.evaluation)
    np.save(folder / "labels.npy", data.labels)
    report = ort_quant(
        "quantize",
        demo_model_path(),
        "-d",
        folder / "calibration.npy",
        "--batch-size",
        25,
        "-o",
        folder / "q/d",
        *(part for name in ("fake_quant", "ascend", "ort", "qdq") for part in ("-t", name)),
        "--json",
    ).document
    return Digits(
        str(demo_model_path()),
        str(folder / "calibration.npy"),
        str(folder / "evaluation.npy"),
        str(folder / "labels.npy"),
        report["record"],
        report["outputs"],
        report,
    )


@pytest.fixture
def files_before_and_after(tmp_path):
    """Snapshot of the test's folder: ``unchanged()`` tells whether a refused command left anything behind."""

    class Snapshot:
        def __init__(self):
            self.before = self.take()

        @staticmethod
        def take():
            return {p.relative_to(tmp_path): p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")}

        def unchanged(self):
            return self.take() == self.before

    return Snapshot
