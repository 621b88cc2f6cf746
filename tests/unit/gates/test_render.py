"""What gates look like: numbers, one screen of text, tables, Markdown, the page, annotations."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ort_quant_plugin.gates.measurement import GateResult, LayerBlame, Measurement, Verdict
from ort_quant_plugin.gates.render.annotations import github, gitlab
from ort_quant_plugin.gates.render.cells import SUMMARY_HEAD, count_line, summary_rows
from ort_quant_plugin.gates.render.html import html
from ort_quant_plugin.gates.render.markdown import MARK, markdown
from ort_quant_plugin.gates.render.text import failure_text, shortened, summary_table
from ort_quant_plugin.gates.render.values import difference_text, distinct_texts, interval_text, value_text
from ort_quant_plugin.gates.report import GateReport

NASTY = "a|b <i>&amp;</i> `c` *d* @me #1 100%, e: f"
"""Every character some form gives a meaning."""


def missed(name="top1", **further):
    """A gate that lost 4.3 pp of the 1 pp it may lose."""
    measurement = Measurement(
        "top1", "share", "own", True, 0.702, 0.745, 1000, binary=True,
        layers=[LayerBlame("/features/0/conv", "Conv", 3.2, 0.52), LayerBlame("fc", "Gemm", None, 0.00024)],
        models={"model": {"path": str(Path.cwd() / "out/net_int8.onnx")}, "reference": {"path": "/models/net.onnx"}},
        details={"first_different_layer": "conv"},
    )  # fmt: skip
    verdict = Verdict(
        passed=False, reasons=["top1 is worse than the float model by 4.30 pp; allowed 1.00 pp"], base=0.745,
        base_name="float", drop=0.043, budget=0.01, interval=(0.0257, 0.0601), interval_of="drop", p_value=8.94e-07,
        notes=["measured on a Tuesday"],
    )  # fmt: skip
    settings = {"rerun": 'pytest "tests/test_gates.py::test_top1"', "where": "tests/test_gates.py:12", **further}
    return GateResult({"name": name, "metric": "top1", "max_drop": 0.01}, "failed", measurement, verdict, **settings)


def passed(name="size", **verdict):
    measurement = Measurement("size_ratio", "ratio", "pair", False, 0.27, 1.0)
    gate = {"name": name, "metric": "size_ratio", "max_value": 0.3, "min_value": 0.1}
    return GateResult(gate, "passed", measurement, Verdict(passed=True, **verdict))


def error(name="broken", text="Data 'x' does not exist."):
    return GateResult({"name": name, "metric": "top1", "max_drop": 0.01}, "error", error=text)


def not_run(name="skipped"):
    return GateResult({"name": name, "metric": "top1", "max_drop": 0.01}, "not run", error="deselected")


def report(*results):
    return GateReport(list(results), {"isa": "avx2", "cpu": NASTY}, "2026-01-01T00:00:00Z", 12.34)


# Numbers


@pytest.mark.parametrize(
    ("value", "unit", "text", "as_difference"),
    [
        (0.712, "share", "71.20 %", "71.20 pp"),
        (-0.004, "share", "-0.40 %", "-0.40 pp"),
        (31.416, "dB", "31.42 dB", "31.42 dB"),
        (0.27, "ratio", "0.27×", "0.27×"),
        (0.998712345, "", "0.998712", "0.998712"),
        (1.5e-7, "", "1.5e-07", "1.5e-07"),
        (-0.00001, "share", "0.00 %", "0.00 pp"),
        (math.inf, "dB", "∞ dB", "∞ dB"),
        (-math.inf, "", "-∞", "-∞"),
        (math.nan, "share", "NaN", "NaN"),
        (None, "share", "–", "–"),
    ],
)
def test_numbers(value, unit, text, as_difference):
    assert value_text(value, unit) == text
    assert difference_text(value, unit) == as_difference


def test_intervals():
    assert interval_text((0.001, 0.023), "share", of_drop=True) == "0.10 to 2.30 pp"
    assert interval_text((0.71, 0.73), "share", of_drop=False) == "71.00 to 73.00 %"
    assert interval_text((20.0, math.inf), "dB", of_drop=False) == "20.00 to ∞ dB"
    assert interval_text((0.2, 0.3), "ratio", of_drop=False) == "0.20 to 0.30×"
    assert interval_text((0.5, 0.6), "", of_drop=False) == "0.5 to 0.6"
    assert interval_text((0.5, math.inf), "share", of_drop=False) == "50.00 % to ∞"


def test_numbers_that_differ_look_different():
    assert distinct_texts(difference_text, "share", 0.010001, 0.01) == ("1.0001 pp", "1.0000 pp")
    assert distinct_texts(value_text, "dB", 20.0, 25.0) == ("20.00 dB", "25.00 dB")
    assert distinct_texts(value_text, "dB", 20.0, 20.0)[0] == "20.00000000000 dB"


# Text


def test_failure():
    assert failure_text(missed(), report="gates.json").splitlines() == [
        "gate 'top1': top1 is worse than the float model by 4.30 pp; allowed 1.00 pp",
        "",
        "  metric                 top1, higher is better",
        "  int8                   70.20 %  out/net_int8.onnx",
        "  float                  74.50 %  /models/net.onnx",
        "  drop                   4.30 pp from the float model; allowed 1.00 pp",
        "  95 % CI                2.57 to 6.01 pp (drop)",
        "  samples                1000; McNemar's exact test: p = 8.9e-07",
        "  first different layer  conv",
        "",
        "  worst layers      operator     SQNR  adds noise",
        "  /features/0/conv  Conv      3.20 dB        52 %",
        "  fc                Gemm            –     0.024 %",
        "",
        "  note: measured on a Tuesday",
        "",
        '  run again:    pytest "tests/test_gates.py::test_top1"',
        "  judge again:  ort-quant gate recheck gates.json --gate top1",
    ]


def test_without_a_report_it_says_how_to_get_one():
    assert "add --quant-report gates.json" in failure_text(missed()).splitlines()[-1]


def test_names_are_quoted_for_the_shell():
    assert "recheck 'my gates.json' --gate 'a[1]'" in failure_text(missed("a[1]"), report="my gates.json")


def test_a_baseline_is_shown_beside_both_values():
    result = missed()
    result.verdict.base_name, result.verdict.base = "baseline", 0.75
    lines = failure_text(result).splitlines()
    assert "  baseline               75.00 %" in lines
    assert "  float                  74.50 %  /models/net.onnx" in lines
    assert "from the baseline" in "".join(lines)
    assert summary_rows(report(result))[0][2] == "baseline 75.00 %"


@pytest.mark.parametrize("notes", [0, 1, 50])
def test_one_screen_whatever_there_is_to_say(notes):
    result = missed("g" * 300)
    result.verdict.reasons += ["and another " * 20, "and one more"]
    result.verdict.notes = [f"note {index} " + "with words " * 15 for index in range(notes)]
    result.measurement.layers = [LayerBlame("block/" * 60, "Conv", -1234.5, 1.0)] * 5
    result.measurement.models["model"]["path"] = "/somewhere/" * 40
    lines = failure_text(result, report="gates.json").splitlines()
    assert len(lines) <= 24
    commands = [line for line in lines if "again:" in line]
    assert len(commands) == 2
    assert max(len(line) for line in lines[1:] if line not in commands) <= 100
    assert sum("block/" in line for line in lines) == 3
    assert sum("int8" in line for line in lines) == 1


def test_notes_that_do_not_fit_are_counted():
    result = missed()
    result.verdict.notes = [f"note {index} {'with words ' * 15}" for index in range(50)]
    lines = failure_text(result).splitlines()
    assert len(lines) <= 24
    assert "  47 more notes in the report" in lines


def test_paths_are_never_broken():
    path = "/a/very/long/path" * 10
    assert path in failure_text(error(text=f"{path} does not exist."))


def test_what_could_not_be_measured_and_what_did_not_run():
    assert failure_text(error()) == "gate 'broken': could not be measured: Data 'x' does not exist."
    assert failure_text(not_run()) == "gate 'skipped': did not run: deselected"
    unjudged = missed()
    unjudged.status, unjudged.verdict, unjudged.error = "error", None, "no base"
    assert failure_text(unjudged).startswith("gate 'top1': could not be judged: no base")


def test_layers_that_were_not_looked_for():
    result = missed()
    result.measurement.layers, result.measurement.layers_note = [], "the model cannot be opened up"
    assert "note: no layers are named: the model cannot be opened up" in failure_text(result)
    result.measurement.layers = [LayerBlame("conv", "Conv", 3.0, 0.5)]
    assert "note: layers: the model cannot be opened up" in failure_text(result)


def test_shortened():
    assert shortened("short", 10) == "short"
    assert shortened("the beginning and the end", 11) == "the b…e end"


def test_table():
    assert summary_table(report(passed(), missed(), error(), not_run())).splitlines() == [
        "gate    | metric     |   float |    int8 |    drop |           budget |    n | verdict",
        "broken  | top1       |       – |       – |       – |             0.01 |    – | ERROR",
        "top1    | top1       | 74.50 % | 70.20 % | 4.30 pp |          1.00 pp | 1000 | FAILED",
        "skipped | top1       |       – |       – |       – |             0.01 |    – | not run",
        "size    | size_ratio |       – |   0.27× |       – | ≥ 0.10×, ≤ 0.30× |    – | passed",
        "quant gates: 1 passed, 2 failed, 1 not run",
    ]


def test_table_of_nothing():
    assert summary_table(report()).splitlines()[-1] == "quant gates: 0 passed, 0 failed, 0 not run"


def test_by_chance_is_no_plain_pass():
    assert summary_rows(report(passed(within_chance=True)))[0][-1] == "passed (chance)"


# Markdown


def test_markdown():
    text = markdown(report(missed(), passed(notes=["elsewhere"]), not_run()), "gates.json")
    lines = text.splitlines()
    assert lines[0] == MARK
    assert lines[2] == "### ❌ Quantization gates: 1 failed, 1 not run, 1 passed"
    assert lines[4] == f"| {' | '.join(SUMMARY_HEAD)} |"
    assert lines[5] == "| --- | --- | --: | --: | --: | --: | --: | --- |"
    assert lines[6] == "| top1 | top1 | 74.50 % | 70.20 % | 4.30 pp | 1.00 pp | 1000 | ❌ **FAILED** |"
    assert "- **size**: elsewhere" in lines
    assert "<details open><summary><b>top1</b>: top1 is worse" in text
    assert "<details><summary><b>skipped</b>: did not run: deselected</summary>" in text
    assert "| <code>/features/0/conv</code> | Conv | 3.20 dB | 52 % |" in lines
    assert "ort-quant gate recheck gates.json --gate top1" in lines
    assert text.count("<details") == text.count("</details>") == 2


@pytest.mark.parametrize(
    ("results", "title"),
    [
        ([passed()], "### ✅ Quantization gates: 1 passed"),
        ([passed(), not_run()], "### ⚪ Quantization gates: 1 not run, 1 passed"),
        ([error()], "### ❌ Quantization gates: 1 failed"),
        ([], "### ⚪ Quantization gates: none"),
    ],
)
def test_markdown_titles(results, title):
    assert markdown(report(*results)).splitlines()[2] == title


def test_markdown_escapes(tmp_path):
    """The text reads the same, and nothing of it is a table cell, an element, emphasis or a mention."""
    result = missed(NASTY)
    result.verdict.reasons = [NASTY, NASTY]
    result.verdict.notes = [f"{NASTY}\n\n<script>"]
    text = markdown(report(result, error(NASTY, "</details>\n# title")))
    assert "<i>" not in text
    assert "<script>" not in text
    assert "@me" not in text
    assert "*d*" not in text
    assert "`c`" not in text
    assert text.count("</details>") == 2
    cells = {line.count("|") for line in text.splitlines() if line.startswith("| ") and "FAILED" in line}
    assert cells == {9}
    assert "# title" not in [line.strip() for line in text.splitlines()]


def test_names_with_underscores_stay_readable():
    assert "my_own_metric" in markdown(report(missed("my_own_metric")))
    assert "__init__" not in markdown(report(missed("__init__")))


def test_markdown_fits_into_a_comment():
    """GitHub refuses more than 65 536 characters."""
    results = [missed(f"gate-{index}" + "x" * 100) for index in range(60)]
    text = markdown(report(*results), "gates.json")
    assert len(text) < 65_536
    assert re.search(r"^\d+ more are explained in the report\.$", text, re.MULTILINE)
    assert text.count("<details") == text.count("</details>")
    assert text.count("FAILED") == 60


# The page


class Elements(HTMLParser):
    """Checks that elements nest, and collects them and their text."""

    VOID = ("meta", "!doctype")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(text):
    elements = Elements()
    elements.feed(text)
    assert elements.open == []
    return elements


def test_page():
    page = parsed(html(report(missed(), passed(), not_run(), error()), "gates.json"))
    text = "".join(page.text)
    for expected in ("quant gates: 1 passed, 2 failed, 1 not run", "70.20 %", "4.30 pp from the float model",
                     "/features/0/conv", "recheck gates.json --gate top1", "avx2", "deselected"):  # fmt: skip
        assert expected in text
    assert sum(tag == "section" for tag, _ in page.seen) == 3


def test_page_needs_nothing_else():
    text = html(report(missed()))
    assert not re.search(r"https?:|//|@import|url\(", text.replace("pytest://", ""))
    assert not {tag for tag, _ in parsed(text).seen} & {"script", "link", "img", "iframe"}


def test_page_escapes():
    result = missed(NASTY, rerun="pytest '<b>'")
    result.verdict.reasons = result.verdict.notes = [NASTY + "</section><script>"]
    result.measurement.layers = [LayerBlame(NASTY, NASTY, 1.0, 0.5)]
    page = parsed(html(report(result, error(NASTY, NASTY), passed(NASTY, notes=[NASTY])), NASTY))
    assert "".join(page.text).count(NASTY) >= 11
    assert not {tag for tag, _ in page.seen} & {"i", "script"}


def left(page, kind):
    found = [attrs["style"] for _, attrs in page.seen if attrs.get("class") == kind]
    return [float(re.search(r"left: ([\d.]+)%", style)[1]) for style in found]


def test_the_picture_is_to_scale():
    """From 0 to 6.01 pp: the drop of 4.30 is at 71.55 %, the budget of 1.00 at 16.64 %."""
    page = parsed(html(report(missed())))
    assert left(page, "point") == [71.55]
    assert left(page, "tick limit") == [16.64]
    assert left(page, "tick") == [0]
    assert left(page, "range") == [42.76]
    assert any("width: 57.24%" in attrs.get("style", "") for _, attrs in page.seen)  # up to the right end


@pytest.mark.parametrize("change", [{"interval": None}, {"interval": (0.01, math.inf)}, {"drop": None}])
def test_no_picture_of_what_is_not_known(change):
    result = missed()
    for name, value in change.items():
        setattr(result.verdict, name, value)
    assert left(parsed(html(report(result))), "point") == []


# Annotations


def test_github():
    lines = github(report(missed(), passed(notes=["by chance"]), not_run(), error()), "gates.json").splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::notice"]
    command, message = lines[1].split("::", 2)[1:]
    assert command == "error file=tests/test_gates.py,line=12,title=quant gate top1"
    assert message.replace("%0A", "\n").replace("%25", "%") == failure_text(missed(), report="gates.json")
    assert lines[3] == "::notice title=quant gate size::by chance"


def test_github_escapes():
    """As GitHub's runner reads it back: data escapes %, CR and LF, properties : and , too."""
    (line,) = github(report(passed(NASTY, notes=["50 %: a, b\r\nnext"]))).splitlines()
    assert line == "::notice title=quant gate a|b <i>&amp;</i> `c` *d* @me #1 100%25%2C e%3A f::50 %25: a, b%0D%0Anext"


def test_github_has_nothing_to_say():
    assert github(report(passed())) == ""


def test_gitlab():
    found = json.loads(gitlab(report(missed(), passed(), not_run(), error())))
    assert [item["severity"] for item in found] == ["critical", "major", "minor"]
    assert found[1] == {
        "description": "gate 'top1': top1 is worse than the float model by 4.30 pp; allowed 1.00 pp",
        "check_name": "ort-quant gate top1",
        "fingerprint": found[1]["fingerprint"],
        "severity": "major",
        "location": {"path": "tests/test_gates.py", "lines": {"begin": 12}},
    }
    assert len({item["fingerprint"] for item in found}) == 3
    assert found[0]["location"] == {"path": "gates.toml", "lines": {"begin": 1}}


def test_gitlab_knows_a_finding_again():
    """The fingerprint stays when numbers change, so a merge request shows what is new."""
    worse = missed()
    worse.verdict.reasons = ["top1 is worse than the float model by 9.00 pp; allowed 1.00 pp"]
    one, other = (json.loads(gitlab(report(result)))[0]["fingerprint"] for result in (missed(), worse))
    assert one == other
    assert json.loads(gitlab(report())) == []


def test_counts():
    assert count_line(report(missed(), error(), passed(), not_run())) == "quant gates: 1 passed, 2 failed, 1 not run"
