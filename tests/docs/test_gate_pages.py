"""What the documentation and the example say about accuracy gates in CI is what happens."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.gates.metrics import metric_named
from ort_quant_plugin.gates.render.markdown import MARK
from ort_quant_plugin.gates.toml_file import read_gates

yaml = pytest.importorskip("yaml")

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "gates"
WORKFLOW, GITLAB = EXAMPLE / ".github/workflows/gates.yml", EXAMPLE / ".gitlab-ci.yml"
HOW_TO = (REPOSITORY / "docs/how-to/gate-in-ci.md").read_text(encoding="utf-8")
REFERENCE = (REPOSITORY / "docs/reference/gates.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", blocks(REFERENCE, "toml"))
def test_toml_of_the_reference_is_read(text, tmp_path):
    (tmp_path / "gates.toml").write_text(text, encoding="utf-8")
    for gate in read_gates(tmp_path / "gates.toml").gates:
        metric_named(gate.metric).parse_options(gate.options, gate.name)


def test_the_how_to_quotes_the_files_of_the_example():
    workflow, gitlab = blocks(HOW_TO, "yaml")
    assert workflow in WORKFLOW.read_text(encoding="utf-8")
    assert gitlab in GITLAB.read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path):
    """A copy of the example, as a checkout has it."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "project"))


def test_the_github_workflow_does_what_it_says(project, shell, tmp_path):
    steps = {
        step["name"]: step["run"]
        for step in yaml.safe_load(WORKFLOW.read_text())["jobs"]["gates"]["steps"]
        if "run" in step
    }
    assert list(steps) == ["Install", "Quantize", "Gates", "Summary", "Comment"]
    for name in ("Quantize", "Gates", "Summary"):  # the others want a package index and a pull request
        shell(steps[name], project, GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))
    report = json.loads((project / "gates.json").read_text())
    assert report["failed"] == report["not_run"] == 0
    assert f"{report['passed']} passed" in (tmp_path / "summary.md").read_text()


def test_the_comment_is_found_by_the_mark_that_reports_have():
    (comment,) = (text for text in WORKFLOW.read_text(encoding="utf-8").split("- name: ") if text.startswith("Comment"))
    assert f'startswith("{MARK}")' in comment


def test_the_gitlab_job_does_what_it_says(project, shell):
    install, *script = yaml.safe_load(GITLAB.read_text())["gates"]["script"]
    assert install.startswith("pip install")
    for command in script:
        shell(command, project)
    assert json.loads((project / "gl-code-quality-report.json").read_text()) == []
    assert json.loads((project / "gates.json").read_text())["passed"] == len(read_gates(project / "gates.toml").gates)
    assert (project / "gates.html").is_file()


def test_a_failure_looks_as_the_how_to_shows_it(tmp_path, monkeypatch):
    """The text there is of EfficientNet-Lite0; every line must be one that a real failure has."""
    import numpy as np

    import ort_quant_plugin as oq
    from ort_quant_plugin.gates.engine import run_gate
    from ort_quant_plugin.gates.evaluate import Evaluator
    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.render.text import failure_text

    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    report = oq.quantize(demo_model_path(), digits.calibration, "out/digits", batch_size=20, progress=False)
    noise = np.random.default_rng(0).random((20, 1, 8, 8), np.float32)
    gate = Gate(
        name="same-answers",
        metric="agreement",
        model=str(report.outputs["ort"]),
        reference=str(demo_model_path()),
        min_value=1.01,
    )
    result = run_gate(gate, Evaluator(), data=noise)
    result.rerun = "ort-quant gate run gates.toml --only same-answers"
    (shown,) = blocks(HOW_TO, "text")
    assert shape(failure_text(result, report="gates.json")) == shape(shown)


def shape(text: str) -> str:
    """A failure without what another model changes: numbers, files, layers, and the width of columns."""
    masks = (
        (r"\n    ", " "),  # a note that is wrapped
        (r"\S+\.onnx", "MODEL"),
        (r"-?\d+(\.\d+)?", "0"),
        (r" +", " "),
        (r"\S+ \S+ 0 dB 0 %", "LAYER"),
    )
    for found, name in masks:
        text = re.sub(found, name, text)
    return text.strip()
