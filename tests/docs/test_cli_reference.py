"""docs/reference/cli.md is what the commands say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ort_quant_plugin.cli.main import VERBS

DOCS = Path(__file__).parents[2] / "docs"


def test_cli_page_is_current():
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert page == module.generate(), "run: python docs/generate_cli.py"
    for verb in VERBS:
        assert f"## ort-quant {verb}\n" in page
