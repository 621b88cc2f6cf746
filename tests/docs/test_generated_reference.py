"""The reference pages say what the code does: generated parts are current, examples are read."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import onnx_ir as ir
import pytest

from ort_quant_plugin.cli.main import VERBS
from ort_quant_plugin.config import config_to_json, read_config, read_simple_config
from ort_quant_plugin.layers import Layer, LayerTable
from ort_quant_plugin.passes import BUILTIN_PASSES
from ort_quant_plugin.record import Record

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = DOCS / "reference"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_current(generate, capsys):
    assert generate.main(["--check"]) == 0, f"run python docs/generate.py: {capsys.readouterr().out}"


def test_check_finds_and_writing_cures_a_stale_page(generate, tmp_path, capsys):
    shutil.copy(REFERENCE / "config.md", tmp_path)
    page = tmp_path / "config.md"
    current = page.read_text()
    page.write_text(current.replace("Number of forward passes", "Amount of forward passes"))
    assert generate.main(["--check"], tmp_path) == 1
    assert "out of date: config.md" in capsys.readouterr().out
    assert generate.main([], tmp_path) == 0
    assert page.read_text() == current
    assert generate.main(["--check"], tmp_path) == 0


def test_every_generator_is_used_and_every_part_has_one(generate):
    used = {
        name for page in DOCS.rglob("*.md") for name in re.findall(r"<!-- generated: ([\w-]+) -->", page.read_text())
    }
    assert used == set(generate.GENERATORS)


def snippets(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (REFERENCE / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def table():
    def node(op_type):
        return ir.node(op_type, [ir.Value(name="x")])

    weight = ir.Value(name="w")
    conv = {"weight": weight, "channel_wise": True, "out_channels": 3, "weight_bits": (6, 7, 8)}
    gemm = {"weight": weight, "in_channels": 2}
    return LayerTable(
        [
            *(Layer(name, "Conv", node("Conv"), **conv) for name in ("stem", "conv_a", "stem_conv")),
            *(Layer(name, "Gemm", node("Gemm"), **gemm) for name in ("fc", "head_fc")),
            *(Layer(name, "MaxPool", node("MaxPool"), kind="tensor") for name in ("pool1", "maxpool_3")),
        ]
    )


def test_json_example(table, tmp_path):
    (text,) = snippets("config.md", "json")
    (tmp_path / "config.json").write_text(text)
    assert config_to_json(read_config(tmp_path / "config.json", table)) == text.rstrip("\n")


def test_simplified_example(table, tmp_path):
    (text,) = snippets("config.md", "textproto")
    (tmp_path / "quant.cfg").write_text(text)
    config = read_simple_config(tmp_path / "quant.cfg", table)
    assert config.batch_num == 4
    assert "stem" not in config.enabled_layers
    assert config.layers["fc"].activation.algo == "ifmr"
    assert config.layers["conv_a"].activation.algo == "hfmg"


def test_record_example(table, tmp_path):
    (text,) = snippets("formats.md", "textproto")
    (tmp_path / "record.txt").write_text(text)
    record = Record.read(tmp_path / "record.txt")
    record.validate(table)
    assert list(record) == ["stem_conv", "head_fc", "maxpool_3:0"]


def test_quant_json_example_is_json():
    (text,) = snippets("formats.md", "json")
    assert json.loads(text)["graph"][0]["op"][1]["name"] == "conv1"


def test_every_operator_has_its_place_in_the_reference():
    from ort_quant_plugin.ops.catalogue import OPERATORS

    text = (DOCS / "reference" / "ops.md").read_text(encoding="utf-8")
    for domain, operator, _ in OPERATORS:
        assert f"## `{domain}`" in text
        assert operator in text


@pytest.mark.parametrize(
    ("page", "headings"),
    [
        ("reference/cli.md", [f"## ort-quant {verb}" for verb in VERBS]),
        ("reference/passes.md", [f"### {graph_pass.name}" for graph_pass in BUILTIN_PASSES]),
    ],
)
def test_whole_pages_are_current_and_complete(generate, page, headings):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text == generate.whole_page(generate.WHOLE_PAGES[page]), "run: python docs/generate.py"
    for heading in headings:
        assert f"{heading}\n" in text
