"""Every hook has a docstring, a heading in the reference with its exact arguments, and a test."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ort_quant_plugin.plugins import hookspecs, kinds

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = (ROOT / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
HOOKS = hookspecs.HOOK_NAMES


def signature(name: str) -> str:
    return f"{name}({', '.join(inspect.signature(getattr(hookspecs, name)).parameters)})"


def test_the_hooks_are_these():
    kinds_hooks = {kind.hook for kind in kinds.KINDS}
    others = {"ort_quant_should_quantize", "ort_quant_modify_pipeline", "ort_quant_report"}
    assert set(HOOKS) == kinds_hooks | others
    specs = {name for name in vars(hookspecs) if name.startswith("ort_quant_")}
    assert specs == set(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_hook_docstring_says_args_returns_when(name: str):
    doc = inspect.getdoc(getattr(hookspecs, name)) or ""
    assert re.findall(r"^(Args|Returns|When):$", doc, re.MULTILINE) == ["Args", "Returns", "When"]
    for argument in inspect.signature(getattr(hookspecs, name)).parameters:
        assert re.search(rf"^    {argument}: ", doc, re.MULTILINE), argument


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_in_the_reference_with_its_arguments(name: str):
    assert f"### `{signature(name)}`\n" in REFERENCE
    anchor = re.sub(r"[(),]", "", signature(name)).replace(" ", "-")
    assert f"| [`{signature(name)}`](#{anchor}) |" in REFERENCE


def test_the_reference_documents_nothing_else():
    headings = re.findall(r"^### `(.*)`$", REFERENCE, re.MULTILINE)
    assert sorted(headings) == sorted(map(signature, HOOKS))


@pytest.mark.parametrize("name", HOOKS)
def test_hook_has_a_test(name: str):
    source = Path(__file__).with_name("test_hooks.py").read_text(encoding="utf-8")
    assert f"def test_hook_{name.removeprefix('ort_quant_')}(" in source
