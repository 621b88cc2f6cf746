"""Printing: JSON, progress, log records, colours."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from ort_quant_plugin.cli.output import Output, Settings, file_size, logging_to_stderr
from ort_quant_plugin.progress import ProgressEvent


def test_json_is_valid_whatever_the_numbers(capsys):
    Output(Settings(json=True), "try").result({"a": float("nan"), "b": [float("inf"), Path("x")], "c": {1: "é"}}, [])
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": "ort-quant/try/1", "a": None, "b": [None, "x"], "c": {"1": "é"}}


def test_names_are_not_markup(capsys):
    output = Output(Settings(), "try")
    table = output.table(["Layer", ("Number", "right")], [["[red]conv[/red]:smile:", "1"]])
    output.result({}, [table, "[bold]text"])
    out = capsys.readouterr().out
    assert "[red]conv[/red]:smile:" in out
    assert "[bold]text" in out


@pytest.mark.parametrize(("total", "lines"), [(3, 3), (100, 10), (7, 7), (25, 13)])
def test_plain_progress_is_a_line_every_few_batches(capsys, total, lines):
    with Output(Settings()).progress() as progress:
        for done in range(1, total + 1):
            progress(ProgressEvent("calibrate", done, total))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == lines
    assert printed[-1] == f"calibrate: batch {total}/{total}"


@pytest.mark.parametrize("settings", [Settings(quiet=True), Settings(json=True)])
def test_no_progress_when_quiet_or_json(settings):
    with Output(settings).progress() as progress:
        assert progress is None


def test_progress_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(
        Output, "stderr", property(lambda self: Console(stderr=True, force_terminal=True, width=80, _environ={}))
    )
    with Output(Settings()).progress() as progress:
        progress(ProgressEvent("calibrate", 1, 2))
        progress(ProgressEvent("compare", 1, None))
        progress(ProgressEvent("calibrate", 2, 2))
    err = capsys.readouterr().err
    assert "calibrate" in err
    assert "\x1b[" in err


def test_log_records_follow_the_verbosity(capsys, monkeypatch):
    monkeypatch.delenv("AMCT_LOG_LEVEL", raising=False)
    logger = logging.getLogger("ort_quant_plugin.try")
    for verbose, expected in ((0, ["warning: careful"]), (2, ["note: hello", "warning: careful"])):
        with logging_to_stderr(Settings(verbose=verbose)):
            logger.info("hello")
            logger.warning("careful")
        assert capsys.readouterr().err.splitlines() == expected
    assert logging.getLogger("ort_quant_plugin").handlers == []


def test_an_exception_that_was_not_the_end_shows_its_traceback_on_request(capsys, monkeypatch):
    monkeypatch.delenv("AMCT_LOG_LEVEL", raising=False)
    for debug in (False, True):
        with logging_to_stderr(Settings(debug=debug)):
            try:
                raise ZeroDivisionError("for a test")
            except ZeroDivisionError:
                logging.getLogger("ort_quant_plugin.try").debug("went on", exc_info=True)
        err = capsys.readouterr().err
        assert ("Traceback" in err and "ZeroDivisionError: for a test" in err and "note: went on" in err) is debug


def test_file_size(tmp_path):
    path = tmp_path / "x"
    for size, text in {500: "0.5 kB", 132_600: "132.6 kB", 18_906_036: "18.9 MB"}.items():
        with path.open("wb") as stream:
            stream.truncate(size)
        assert file_size(path) == text


def test_a_reader_that_leaves_ends_the_command_as_sigpipe_does(tmp_path):
    """Neither 0 nor 1, which means "finding"."""
    import subprocess
    import sys

    from ort_quant_plugin.demo import demo_model_path

    command = [sys.executable, "-m", "ort_quant_plugin", "inspect", str(demo_model_path())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert errors == b""
