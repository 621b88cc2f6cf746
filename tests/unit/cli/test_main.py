"""The command group: verbs, global options, exit codes, plugin commands."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ort_quant_plugin import __version__
from ort_quant_plugin.cli import main as cli_main
from ort_quant_plugin.plugins import build_plugin_manager, hookimpl


def python(*args, **kwargs):
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=120, check=False, **kwargs)


def test_help_lists_every_verb(ort_quant):
    out = ort_quant("--help").out
    for verb in cli_main.VERBS:
        assert f"\n  {verb} " in out
        assert ort_quant(verb, "--help").out.startswith(f"Usage: ort-quant {verb}")
    assert "-h, --help" in ort_quant("ops", "check", "-h").out


def test_version(ort_quant):
    assert ort_quant("--version").out == f"ort-quant {__version__}\n"


def test_no_arguments_shows_help_and_is_a_usage_error():
    result = python("-m", "ort_quant_plugin")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["quantise"], "No such command 'quantise'", "ort-quant --help"),
        (["inspect", "--frobnicate", "x.onnx"], "--frobnicate", "ort-quant inspect --help"),
        (["inspect"], "Missing argument 'MODEL'", "ort-quant inspect --help"),
        (["inspect", "a.onnx", "--model", "b.onnx"], "both given", "ort-quant inspect --help"),
        (["quantize", "a.onnx", "--data", "d"], "--save-path", "ort-quant quantize --help"),
        (["quantize", "a.onnx", "-o", "x"], "Missing option '--data'", "ort-quant quantize --help"),
        (["calibrate", "a.onnx"], "Missing option '--data'", "ort-quant calibrate --help"),
        (["compare", "a.onnx", "b.onnx"], "Missing option '--data'", "ort-quant compare --help"),
        (
            ["compare", "a.onnx", "b.onnx", "-d", "x", "--max-drop", "0.1"],
            "--max-drop needs --labels",
            "compare --help",
        ),
        (["quantize", "a.onnx", "-o", "x", "-d", "y", "--mean", "a"], "'a' is not a number", "quantize --help"),
        (["quantize", "a.onnx", "-o", "x", "-d", "y", "--crop", "1,2,3"], "neither a size", "quantize --help"),
        (
            ["quantize", "a.onnx", "-o", "x", "-d", "y", "--input-shape", "x"],
            "'x' is not name:n,c,h,w",
            "quantize --help",
        ),
        (["quantize", "a.onnx", "-o", "x", "-d", "y", "--batch-num", "0"], "0 is not in the range", "quantize --help"),
        (["quantize", "a.onnx", "-o", "x", "-d", "y", "-c", "c", "--symmetric"], "--symmetric has no effect", "--help"),
        (["quantize", "a.onnx", "-o", "x", "-d", "y", "--evaluator", "e.py"], "exclude each other", "--help"),
        (
            ["quantize", "a.onnx", "-o", "x", "-d", "y", "--input-shape", "x:1,2", "--data-types", "int7"],
            "'int7' is not a type",
            "--help",
        ),
        (
            ["quantize", "a.onnx", "-o", "x", "-d", "y", "--input-shape", "x:1,2", "--data-types", "int8;int8"],
            "2 types for 1 inputs",
            "--help",
        ),
    ],
)
def test_usage_errors(ort_quant, args, message, hint):
    err = ort_quant(*args, code=2).err
    assert message in err
    assert hint in err


def test_options_are_accepted_before_and_after_the_verb(ort_quant, digits):
    after = ort_quant("inspect", digits.model, "--json").out
    assert after.startswith("{")
    assert ort_quant("-q", "inspect", digits.model, "--json").out == after


def test_unknown_failure_is_an_internal_error(ort_quant, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("ort_quant_plugin.api.inspect", broken)
    err = ort_quant("inspect", "x.onnx", code=3).err
    assert "error: Internal error: ZeroDivisionError: boom" in err
    assert "--debug" in err


def test_interrupt(ort_quant, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("ort_quant_plugin.api.inspect", interrupted)
    assert "Interrupted" in ort_quant("inspect", "x.onnx", code=130).err


def test_reader_that_goes_away_is_no_failure(digits):
    command = f"{sys.executable} -m ort_quant_plugin inspect {digits.model} --json; echo exit $? >&2"
    result = subprocess.run(
        ["bash", "-c", f"({command}) | head -c 1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout == "{"
    assert "Error" not in result.stderr
    assert result.stderr.strip() in {"exit 0", "exit 141"}


def test_failure_in_a_process_of_its_own():
    result = python("-m", "ort_quant_plugin", "inspect", "gone.onnx")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: Model file 'gone.onnx' does not exist.",
        "hint: Check the path.",
    ]


def test_debug_shows_the_traceback(digits):
    result = CliRunner().invoke(cli_main.cli, ["inspect", "gone.onnx", "--debug"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "error: Model file 'gone.onnx' does not exist." in result.stderr


def test_help_is_light():
    code = (
        "import sys; from ort_quant_plugin.cli.main import cli\n"
        "try: cli(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'onnxruntime', 'onnx', 'onnx_ir', 'PIL', 'google.protobuf'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = python("-c", code)
    assert result.stderr.strip() == "[]"


def test_amct_spelling_of_options(ort_quant, digits, tmp_path):
    ort_quant(
        "quantize",
        "--model",
        digits.model,
        "--save_path",
        tmp_path / "m",
        "--data_dir",
        digits.calibration,
        "--batch_num",
        2,
    )
    assert (tmp_path / "m_deploy_model.onnx").is_file()


class CommandPlugin:
    @hookimpl
    def ort_quant_register_commands(self, registry):
        @click.command()
        def hello():
            """Greet."""
            click.echo("hello from a plugin")

        registry.add("hello", hello)
        registry.add("inspect", hello)


def test_commands_of_plugins(ort_quant, monkeypatch, caplog):
    def manager(**kwargs):
        made = build_plugin_manager(load_entry_points=False)
        made.register(CommandPlugin(), name="greeter")
        return made

    monkeypatch.setattr("ort_quant_plugin.plugins.build_plugin_manager", manager)
    help_text = ort_quant("--help").out
    assert "Commands of plugins:\n  hello  Greet." in help_text
    assert ort_quant("hello").out == "hello from a plugin\n"
    assert "'inspect' of" in caplog.text
    assert "List the layers" in ort_quant("inspect", "--help").out


@pytest.mark.parametrize(
    ("env", "flags", "colored"), [({}, [], True), ({}, ["--no-color"], False), ({"NO_COLOR": "1"}, [], False)]
)
def test_no_color(ort_quant, digits, env, flags, colored):
    out = ort_quant("inspect", digits.model, *flags, env={"FORCE_COLOR": "1", "TERM": "xterm", **env}).out
    assert ("\x1b[32m" in out) == colored


@pytest.mark.parametrize("arguments", [["--version"], ["inspect", "gone.onnx"]])
def test_a_bad_log_level_is_bad_input(arguments):
    """Logging is set up while the package is imported, before the command line can report anything."""
    result = python("-m", "ort_quant_plugin", *arguments, env={**os.environ, "AMCT_LOG_LEVEL": "LOUD"})
    assert result.returncode == 2
    assert result.stdout == ""
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert "LOUD" in error
    assert hint.startswith("hint: ")
