"""``--quant-format``: annotations where GitHub and GitLab read them."""

from __future__ import annotations

import json

import pytest

GATES = """
import pytest

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_bad(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.80, 0.96))
"""


def test_github(project, pytester, run, plugin_args):
    pytester.makepyfile(GATES)
    run(*plugin_args, "--quant-format=github").stdout.fnmatch_lines(
        ["::error *file=test_github.py,line=3*title=*test_bad*::*16.00*"]
    )


def test_gitlab(project, pytester, run):
    pytester.makepyfile(GATES)
    text = str(run("--quant-format", "gitlab").stdout)
    start = text.index("\n[\n") + 1
    (found,) = json.loads(text[start : text.index("\n]\n", start) + 2])
    assert found["location"] == {"path": "test_gitlab.py", "lines": {"begin": 3}}
    assert "16.00" in found["description"]


def test_nothing_without_it(project, pytester, run):
    pytester.makepyfile(GATES)
    run().stdout.no_fnmatch_line("*::error*")


def test_another_name(project, run):
    result = run("--quant-format=teamcity")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--quant-format*teamcity*"])
