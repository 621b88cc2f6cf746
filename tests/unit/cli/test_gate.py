"""gate run, recheck and report from the command line: every option, every error, exit codes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from ort_quant_plugin.cli.gate import SUBCOMMANDS

if TYPE_CHECKING:
    from pathlib import Path

GATES = """
[defaults]
model = "{int8}"
reference = "{float}"
data = "{data}"
labels = "{labels}"
batch_size = 50
max_samples = 200

[[gate]]
name = "accuracy"
metric = "top1"
max_drop = 0.02

[[gate]]
name = "noise"
metric = "sqnr_db"
min_value = {noise}

[[gate]]
name = "same[int8]"
metric = "agreement"
min_value = 0.9
"""


@pytest.fixture
def write_gates(digits, tmp_path):
    """Write a gates.toml on the digits network; ``noise``: the SQNR in dB that its second gate demands."""

    def _write(extra: str = "", *, noise: float = 10.0) -> Path:
        return write(tmp_path, digits, extra, noise)

    return _write


def write(folder: Path, digits, extra: str, noise: float) -> Path:
    paths = {"int8": digits.outputs["fake_quant"], "float": digits.model}
    text = GATES.format(**paths, data=digits.evaluation, labels=digits.labels, noise=noise)
    (folder / "gates.toml").write_text(text + extra, encoding="utf-8")
    return folder / "gates.toml"


@pytest.fixture(scope="module")
def saved(digits, ort_quant, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    ort_quant("gate", "run", write(folder, digits, "", 90), "--report", folder / "gates.json", code=1)
    return (folder / "gates.json").read_text()


@pytest.fixture
def report(saved, tmp_path):
    """A saved report in which the gate "noise" failed."""
    (tmp_path / "gates.json").write_text(saved)
    return tmp_path / "gates.json"


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def statuses(document) -> dict[str, str]:
    return {result["gate"]["name"]: result["status"] for result in document["results"]}


def test_help_lists_the_subcommands_without_loading_them(ort_quant):
    out = ort_quant("gate", "--help").out
    for name, line in SUBCOMMANDS.items():
        assert name in out
        assert line[:40] in out
    assert "No such command" in ort_quant("gate", "check", code=2).err


# run


def test_gates_that_hold(ort_quant, write_gates):
    result = ort_quant("gate", "run", write_gates())
    assert "3 passed" in result.out
    last = result.out.splitlines()[-1]
    assert re.fullmatch(r"PASSED in \d+\.\d s: ort-quant gate run \S*gates\.toml", last)
    for name in ("accuracy", "noise", "same[int8]"):
        assert re.search(rf"^{re.escape(name)} .* passed *$", result.out, re.MULTILINE)


def test_a_gate_that_fails_says_what_and_how_to_go_on(ort_quant, write_gates):
    path = write_gates(noise=90)
    result = ort_quant("gate", "run", path, code=1)
    assert "2 passed, 1 failed" in result.out
    assert "min_value is 90.00 dB" in result.out
    assert f"ort-quant gate run {path} --only noise" in result.out
    assert "ort-quant gate recheck" in result.out
    assert "FAILED in " in result.out.splitlines()[-1]
    table = [line.split()[0] for line in result.out.splitlines() if re.search(r" (passed|FAILED) *$", line)]
    assert table[0] == "noise"


def test_gates_toml_is_the_default(ort_quant, write_gates, monkeypatch):
    monkeypatch.chdir(write_gates().parent)
    assert "3 passed" in ort_quant("gate", "run").out


def test_json_is_the_report(ort_quant, write_gates, tmp_path):
    path = write_gates(noise=90)
    result = ort_quant("gate", "run", path, "--json", "--report", tmp_path / "r.json", code=1)
    document = result.document
    assert document["schema"] == "ort-quant/gate-report/1"
    assert document == json.loads((tmp_path / "r.json").read_text())
    assert statuses(document) == {"accuracy": "passed", "noise": "failed", "same[int8]": "passed"}
    failed = document["results"][1]
    assert failed["where"] == f"{path}:16"
    assert failed["rerun"] == f"ort-quant gate run {path} --only noise"
    assert failed["measurement"]["samples"] == 200


def test_only_and_skip(ort_quant, write_gates):
    path = write_gates(noise=90)
    document = ort_quant("gate", "run", path, "--only", "acc*", "--only", "same[int8]", "--json").document
    assert statuses(document) == {"accuracy": "passed", "noise": "not run", "same[int8]": "passed"}
    assert "--only" in document["results"][1]["error"]
    document = ort_quant("gate", "run", path, "--skip", "noise", "--json").document
    assert statuses(document) == {"accuracy": "passed", "noise": "not run", "same[int8]": "passed"}
    assert "1 not run" in ort_quant("gate", "run", path, "--skip", "noise").out


def test_gates_that_did_not_run_can_fail_the_run(ort_quant, write_gates):
    result = ort_quant("gate", "run", write_gates(), "--skip", "noise", "--require-all", code=1)
    assert "FAILED in " in result.out.splitlines()[-1]


def test_max_samples(ort_quant, write_gates):
    document = ort_quant("gate", "run", write_gates(), "--max-samples", 20, "--only", "accuracy", "--json").document
    assert document["results"][0]["measurement"]["samples"] == 20
    document = ort_quant("gate", "run", write_gates(), "--max-samples", 999, "--only", "accuracy", "--json").document
    assert document["results"][0]["measurement"]["samples"] == 200


def test_exit_zero(ort_quant, write_gates):
    assert "FAILED in " in ort_quant("gate", "run", write_gates(noise=90), "--exit-zero").out.splitlines()[-1]


def test_a_gate_that_cannot_be_measured_is_a_finding(ort_quant, write_gates):
    path = write_gates('[[gate]]\nname = "lost"\nmetric = "top1"\nmin_value = 0.5\ndata = "gone.npy"\n')
    result = ort_quant("gate", "run", path, code=1)
    assert "gone.npy does not exist" in result.out
    assert re.search(r"^lost .* ERROR *$", result.out, re.MULTILINE)
    assert re.search(r"^accuracy .* passed *$", result.out, re.MULTILINE)


BASELINE = '[[gate]]\nname = "kept"\nmetric = "top1"\nmax_drop = 0.001\nbaseline = "digits/top1"\n'


def test_baselines(ort_quant, write_gates, tmp_path):
    path = write_gates(BASELINE)
    stored = tmp_path / "quant_baselines/digits/top1.json"
    only = ("gate", "run", path, "--only", "kept")
    assert "did not exist and was written" in unwrapped(ort_quant(*only, code=1).out)
    assert json.loads(stored.read_text())["schema"] == "ort-quant/gate-baseline/1"
    assert "1 passed" in ort_quant(*only).out

    better = json.loads(stored.read_text())
    better["measurement"]["value"] = 1.0
    better["measurement"]["value_rows"] = None
    better["measurement"]["binary"] = False
    stored.write_text(json.dumps(better))
    assert "worse than the baseline" in unwrapped(ort_quant(*only, code=1).out)
    assert "was updated" in unwrapped(ort_quant(*only, "--update-baselines", code=1).out)
    assert "1 passed" in ort_quant(*only, "--update-baselines").out
    assert "1 passed" in ort_quant(*only).out


def test_no_baseline_of_a_part_of_the_data_is_written(ort_quant, write_gates, tmp_path):
    run = ("gate", "run", write_gates(BASELINE), "--only", "kept", "--max-samples", 20)
    assert "none is written of a part of the data" in unwrapped(ort_quant(*run, code=1).out)
    assert not (tmp_path / "quant_baselines").exists()


def test_baseline_dir(ort_quant, write_gates, tmp_path):
    ort_quant("gate", "run", write_gates(BASELINE), "--only", "kept", "--baseline-dir", tmp_path / "b", code=1)
    assert (tmp_path / "b/digits/top1.json").is_file()
    assert not (tmp_path / "quant_baselines").exists()


def test_reports_of_every_kind(ort_quant, write_gates, tmp_path):
    files = [tmp_path / f"new/r{suffix}" for suffix in (".json", ".md", ".html")]
    result = ort_quant("gate", "run", write_gates(), *(part for file in files for part in ("--report", file)))
    assert f"Written: {files[0]}, {files[1]}, {files[2]}" in result.out
    assert all("accuracy" in file.read_text() for file in files)


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_reports_for_people_name_the_one_that_can_be_judged_again(ort_quant, report, suffix):
    ort_quant("gate", "recheck", report, "--report", report.with_suffix(suffix), code=1)
    assert f"gate recheck {report} --gate noise" in report.with_suffix(suffix).read_text()


@pytest.mark.parametrize(
    ("style", "start"),
    [("markdown", "<!-- ort-quant gates -->"), ("html", "<!"), ("github", "::error"), ("gitlab", "[")],
)
def test_other_formats_take_stdout_and_leave_stderr_to_people(ort_quant, write_gates, style, start):
    result = ort_quant("gate", "run", write_gates(noise=90), "--format", style, code=1)
    assert result.out.startswith(start)
    assert result.out.endswith("\n")
    assert "noise" in result.out
    assert "2 passed, 1 failed" in result.err
    assert "FAILED in " in result.err.splitlines()[-1]
    quiet = ort_quant("gate", "run", write_gates(noise=90), "--format", style, "--quiet", code=1)
    assert quiet.err == ""


def test_annotations_of_gates_that_hold(ort_quant, write_gates):
    assert "::error" not in ort_quant("gate", "run", write_gates(), "--format", "github").out
    assert ort_quant("gate", "run", write_gates(), "--format", "gitlab").document == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--only", "acuracy"), "no gate is called 'acuracy'. Did you mean 'accuracy'?"),
        (("--skip", "xyz"), "no gate is called 'xyz'. There are: accuracy, noise, same[int8]."),
        (("--only", "noise", "--skip", "n*"), "leave no gate to run"),
        (("--max-samples", 0), "is not in the range"),
        (("--max-samples", 5, "--update-baselines"), "a part of the data"),
        (("--report", "r.xml"), "has the suffix '.xml'"),
        (("--report", "gates.toml/r.json"), "Cannot write"),
        (("--json", "--format", "github"), "--json and --format are both given"),
        (("--format", "yaml"), "'yaml' is not one of"),
    ],
)
def test_bad_options(ort_quant, write_gates, monkeypatch, files_before_and_after, args, text):
    monkeypatch.chdir(write_gates().parent)
    files = files_before_and_after()
    assert text in ort_quant("gate", "run", *args, code=2).err
    assert files.unchanged()


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ('[[gate]]\nname = "x"\nmetric = "topone"\nmin_value = 1\n', "'topone'"),
        ('[[gate]]\nname = "x"\nmetric = "top1"\nmin_value = 1\nmax_drp = 1\n', "Did you mean 'max_drop'?"),
        ('[[gate]]\nname = "accuracy"\nmetric = "top1"\nmin_value = 1\n', "2 gates have the name 'accuracy'"),
        (BASELINE.replace("digits/top1", "../x"), "'../x' is no name of a baseline"),
    ],
)
def test_mistakes_in_the_file_stop_the_run_before_inference(ort_quant, write_gates, extra, text):
    assert text in ort_quant("gate", "run", write_gates(extra), code=2).err


def test_a_missing_file(ort_quant, tmp_path):
    assert "does not exist" in ort_quant("gate", "run", tmp_path / "gates.toml", code=2).err


# recheck


def test_recheck_judges_as_before(ort_quant, report):
    result = ort_quant("gate", "recheck", report, code=1)
    assert "2 passed, 1 failed" in result.out
    assert "FAILED in " in result.out.splitlines()[-1]


def test_thresholds_from_options(ort_quant, report):
    gate = ("gate", "recheck", report, "--gate", "noise")
    assert "1 passed" in ort_quant(*gate, "--min-value", 10).out
    assert "max_value is 5.00 dB" in ort_quant(*gate, "--min-value", 10, "--max-value", 5, code=1).out
    assert "1 passed" in ort_quant("gate", "recheck", report, "--gate", "accuracy", "--max-drop", 0).out
    almost = ("gate", "recheck", report, "--gate", "accuracy", "--min-value", 0.997)
    assert "1 failed" in ort_quant(*almost, code=1).out
    assert "passed (chance)" in ort_quant(*almost, "--significance", 0.05).out


def test_a_report_without_judged_gates_does_not_pass(ort_quant, write_gates, report):
    document = json.loads(report.read_text())
    document["results"] = []
    report.write_text(json.dumps(document))
    for more in ((), (write_gates(noise=10),)):
        out = ort_quant("gate", "recheck", report, *more, code=1).out
        assert "No gate was judged" in out
        assert "FAILED in " in out.splitlines()[-1]


def test_a_gates_file_that_asks_for_another_measurement(ort_quant, write_gates, report):
    path = write_gates(noise=10)
    path.write_text(path.read_text().replace("max_samples = 200", "max_samples = 100"))
    out = unwrapped(ort_quant("gate", "recheck", report, path, code=1).out)
    assert "the report holds a measurement with max_samples 200; the gate now asks for another" in out


def test_recheck_runs_no_model(ort_quant, write_gates, report, monkeypatch):
    """Nothing that the gates name is there any more."""
    text = write_gates(noise=10).read_text()
    path = report.parent / "elsewhere.toml"
    path.write_text(re.sub(r'"/[^"]*/', '"/nowhere/', text))
    result = ort_quant("gate", "recheck", report, path, "--report", report.parent / "again.json")
    assert "3 passed" in result.out
    assert statuses(json.loads((report.parent / "again.json").read_text()))["noise"] == "passed"


def test_options_come_before_the_gates_file(ort_quant, write_gates, report):
    path = write_gates(noise=10)
    assert statuses(ort_quant("gate", "recheck", report, path, "--gate", "noise", "--json").document) == {
        "noise": "passed"
    }
    ort_quant("gate", "recheck", report, path, "--gate", "noise", "--min-value", 99, code=1)


def test_gates_that_the_report_lacks_did_not_run(ort_quant, write_gates, report):
    path = write_gates('[[gate]]\nname = "new"\nmetric = "mse"\nmax_value = 1\n', noise=10)
    document = ort_quant("gate", "recheck", report, path, "--json").document
    assert statuses(document)["new"] == "not run"
    ort_quant("gate", "recheck", report, path, "--require-all", code=1)


def test_recheck_with_stored_baselines(ort_quant, write_gates, tmp_path):
    path = write_gates(BASELINE)
    run = ("gate", "run", path, "--only", "kept", "--report", tmp_path / "r.json")
    ort_quant(*run, code=1)
    ort_quant(*run)
    kept, stored = ("--gate", "kept", "--json"), tmp_path / "quant_baselines"
    for place, exact in (((), True), ((path,), False), (("--baseline-dir", stored), False)):
        (result,) = ort_quant("gate", "recheck", tmp_path / "r.json", *place, *kept).document["results"]
        assert any("counts as exact" in note for note in result["verdict"]["notes"]) is exact


def test_recheck_writes_no_baselines(ort_quant, write_gates, tmp_path):
    run = ("gate", "run", write_gates(BASELINE), "--only", "kept", "--report", tmp_path / "r.json")
    ort_quant(*run, code=1)
    ort_quant("gate", "recheck", tmp_path / "r.json", "--gate", "kept", "--baseline-dir", tmp_path / "none", code=1)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--gate", "nois"), "the report has no gate 'nois'. Did you mean 'noise'?"),
        (("--gate", "xyz"), "There are: accuracy, noise, same[int8]."),
        (("--max-drop", 0.1), "gates of different metrics (agreement, sqnr_db, top1)"),
        (("--gate", "noise", "--max-drop", -1), "is not in the range"),
        (("--significance", 0), "is not in the range"),
        (("--report", "r.txt"), "has the suffix '.txt'"),
        (("gone.toml",), "does not exist"),
    ],
)
def test_recheck_bad_options(ort_quant, report, args, text):
    assert text in ort_quant("gate", "recheck", report, *args, code=2).err


@pytest.mark.parametrize("verb", ["recheck", "report"])
def test_files_that_are_no_report(ort_quant, tmp_path, verb):
    assert "does not exist" in ort_quant("gate", verb, tmp_path / "r.json", code=2).err
    (tmp_path / "r.json").write_text("{}")
    assert "r.json" in ort_quant("gate", verb, tmp_path / "r.json", code=2).err


# report


@pytest.mark.parametrize("style", ["text", "markdown", "html", "github", "gitlab"])
def test_report_in_every_form(ort_quant, report, tmp_path, style):
    shown = ort_quant("gate", "report", report, "--format", style).out
    assert "noise" in shown
    result = ort_quant("gate", "report", report, "--format", style, "--out", tmp_path / "out/r")
    assert result.out == ""
    assert str(tmp_path / "out/r") in result.err
    written = (tmp_path / "out/r").read_text()
    assert "noise" in written
    assert written.endswith("\n")
    if style != "text":
        assert written == shown


def test_report_shows_what_run_showed(ort_quant, write_gates, tmp_path):
    ran = ort_quant("gate", "run", write_gates(), "--report", tmp_path / "r.json").out
    assert ort_quant("gate", "report", tmp_path / "r.json").out.splitlines() == ran.splitlines()[:-2]
