"""The tutorial shows the sample plugin's files as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("sample_plugin")
TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "your-first-plugin.md"
SNIPPET = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", re.DOTALL)
SNIPPETS = SNIPPET.findall(TUTORIAL.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "text"), SNIPPETS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(SNIPPETS)])
def test_snippet_is_in_its_file(name: str, text: str):
    assert text in (SAMPLE / name).read_text(encoding="utf-8")


def test_every_code_block_names_its_file():
    text = TUTORIAL.read_text(encoding="utf-8")
    assert len(re.findall(r"^```(?:python|toml)$", text, re.MULTILINE)) == len(SNIPPETS) == 9
    assert {name for name, _ in SNIPPETS} == {
        "pyproject.toml",
        *(str(path.relative_to(SAMPLE)) for path in SAMPLE.glob("ort_quant_sample/*.py")),
    }


def test_the_readme_lists_what_the_plugin_adds():
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for path in SAMPLE.glob("ort_quant_sample/*.py"):
        assert f"`{path.relative_to(SAMPLE)}`" in readme
        for name in re.findall(r"registry\.add\(\"([^\"]+)\"", path.read_text(encoding="utf-8")):
            assert name in readme
