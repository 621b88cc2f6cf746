"""Every bash and python block of the README and the documentation runs, page by page, in a folder of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The blocks of the first are excerpts of the sample plugin, the second wants a server: both have tests of their own.
ELSEWHERE = {"your-first-plugin.md", "serve-on-triton.md"}
RUNNABLE = [p for p in PAGES if p.name not in ELSEWHERE and BLOCK.search(p.read_text(encoding="utf-8"))]


def script(page: Path) -> str:
    """One shell script for a page, so that a ``cd`` holds for the blocks after it."""
    parts = ["set -eux"]
    if page.name == "README.md":
        parts.append("ort-quant demo")  # the second half of its installation line, which is a console block
    for language, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        parts.append(code if language == "bash" else f"'{sys.executable}' -W error - <<'PYTHON'\n{code}PYTHON\n")
    return "\n".join(parts)


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda p: p.name)
def test_blocks_run(page, shell, tmp_path):
    shell(script(page), tmp_path / "work")


def test_the_two_commands_of_the_readme():
    """CI runs the second one as it stands; the first is the demo."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "pip install '.[cpu]' && ort-quant demo" in text
    assert "pip install '.[cpu,test]' && pytest" in text


def test_links_inside_the_documentation_lead_somewhere():
    for page in [*PAGES, *sorted((REPOSITORY / "deploy_examples").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_reachable_from_the_index():
    index = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        name = page.relative_to(REPOSITORY / "docs").as_posix()
        assert name == "index.md" or f"({name})" in index, f"docs/index.md does not link to {name}"
