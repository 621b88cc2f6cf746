"""docs/reference/passes.md is what the passes say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ort_quant_plugin.passes import BUILTIN_PASSES

DOCS = Path(__file__).parents[2] / "docs"


def test_passes_page_is_current():
    spec = importlib.util.spec_from_file_location("generate_passes", DOCS / "generate_passes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "reference" / "passes.md").read_text(encoding="utf-8")
    assert page == module.generate(), "run: python docs/generate_passes.py"
    for graph_pass in BUILTIN_PASSES:
        assert f"### {graph_pass.name}\n" in page
