"""Fill the generated parts of the reference pages from the code.

A page holds ``<!-- generated: NAME -->`` … ``<!-- end generated -->``; what stands between is replaced
by what ``GENERATORS[NAME]()`` returns. The pages of ``WHOLE_PAGES`` are replaced as a whole.
``python docs/generate.py`` writes, ``--check`` compares and exits with 1 when a page is out of date.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ort_quant_plugin.config import AlgorithmSpec, Parameter
    from ort_quant_plugin.textproto import Schema

__all__ = ["GENERATORS", "WHOLE_PAGES", "main", "render_page", "stale_pages", "whole_page"]

DOCS = Path(__file__).resolve().parent
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _default(value: Any) -> str:
    import json

    return "" if value is None else f"`{json.dumps(value)}`"


_TYPES = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "string",
    "range": "[float, float]",
    "names": "list of strings",
    "objects": "list of objects",
    "object": "object",
}


def _keys(parameters: Iterable[Parameter]) -> str:
    return table(
        ("key", "type", "default", "values", "meaning"),
        ((f"`{p.name}`", _TYPES[p.kind], _default(p.default), p.range, p.doc) for p in parameters),
    )


def _algorithms(algorithms: Mapping[str, AlgorithmSpec]) -> str:
    parts = []
    for spec in algorithms.values():
        doc = spec.doc if spec.refused is None else f"{spec.doc} **Refused:** {spec.refused}."
        parts.append(f"`{spec.name}`: {doc}\n")
        if spec.parameters and spec.refused is None:
            parts.append(_keys(spec.parameters))
    return "\n".join(parts)


def _global_keys() -> str:
    from ort_quant_plugin.config.keys import GLOBAL_KEYS

    return _keys(GLOBAL_KEYS.values())


def _layer_keys() -> str:
    from ort_quant_plugin.config.keys import LAYER_KEYS

    return _keys(LAYER_KEYS.values())


def _activation_keys() -> str:
    from ort_quant_plugin.config.keys import ACTIVATION_KEYS

    return _keys(ACTIVATION_KEYS.values())


def _weight_keys() -> str:
    from ort_quant_plugin.config.keys import WEIGHT_KEYS

    return _keys(WEIGHT_KEYS.values())


def _tensor_keys() -> str:
    from ort_quant_plugin.config.keys import TENSOR_KEYS

    return _keys(TENSOR_KEYS.values())


def _activation_algorithms() -> str:
    from ort_quant_plugin.config import ACTIVATION_ALGORITHMS

    return _algorithms(ACTIVATION_ALGORITHMS)


def _weight_algorithms() -> str:
    from ort_quant_plugin.config import WEIGHT_ALGORITHMS

    return _algorithms(WEIGHT_ALGORITHMS)


def _messages(schema: Schema) -> str:
    parts = []
    for message in schema.messages:
        parts.append(f"**{message.name}**: {message.doc}\n")
        rows = (
            (
                f"`{f.name}`",
                f"one of `{f.oneof}`" if f.oneof else f.label,
                f.type,
                "" if f.default is None else f"`{f.default}`",
                f.doc,
            )
            for f in message.fields
        )
        parts.append(table(("field", "label", "type", "default", "meaning"), rows))
    parts += [f"**{e.name}**: {e.doc} Values: {', '.join(f'`{n}`' for n, _ in e.values)}.\n" for e in schema.enums]
    return "\n".join(parts)


def _proto(schema: Schema) -> str:
    from ort_quant_plugin.textproto import render_proto

    return f"```proto\n{render_proto(schema)}```\n"


def _simple_config_messages() -> str:
    from ort_quant_plugin.schemas import CONFIG_SCHEMA

    return _messages(CONFIG_SCHEMA)


def _simple_config_proto() -> str:
    from ort_quant_plugin.schemas import CONFIG_SCHEMA

    return _proto(CONFIG_SCHEMA)


def _record_messages() -> str:
    from ort_quant_plugin.schemas import RECORD_SCHEMA

    return _messages(RECORD_SCHEMA)


def _record_proto() -> str:
    from ort_quant_plugin.schemas import RECORD_SCHEMA

    return _proto(RECORD_SCHEMA)


def _errors() -> str:
    from ort_quant_plugin import errors

    classes = [getattr(errors, name) for name in errors.__all__ if name != "OrtQuantError"]
    rows = [
        (f"`{cls.__name__}`", f"`{cls.__bases__[0].__name__}`, `{cls.__bases__[-1].__name__}`", _first_line(cls))
        if len(cls.__bases__) > 1
        else (f"`{cls.__name__}`", f"`{cls.__bases__[0].__name__}`", _first_line(cls))
        for cls in classes
    ]
    return table(("error", "also caught as", "meaning"), rows)


def _first_line(item: object) -> str:
    return " ".join((item.__doc__ or "").split("\n\n")[0].split())


def _methods() -> str:
    from ort_quant_plugin.calibration.methods import BUILTIN_METHODS

    return table(("method", "what it does"), ((f"`{m.name}`", m.summary) for m in BUILTIN_METHODS))


def _grid_parameters() -> str:
    from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS

    return _keys(GRID_PARAMETERS)


def _method_parameters() -> str:
    from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
    from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS

    parts = []
    for method in BUILTIN_METHODS:
        own = [parameter for parameter in method.parameters if parameter not in GRID_PARAMETERS]
        parts.append(f"### `{method.name}`\n")
        parts.append(_keys(own) if own else "No parameters of its own.\n")
    return "\n".join(parts)


def _triton_releases() -> str:
    from itertools import groupby

    from ort_quant_plugin.triton.releases import RELEASES

    rows = []
    for (version, _), found in groupby(RELEASES.values(), lambda r: (r.onnxruntime, r.ubuntu)):
        group = list(found)
        first, last = group[0], group[-1]
        names = first.name if first is last else f"{first.name} to {last.name}"
        system = f"Ubuntu {first.ubuntu}, glibc {first.glibc}, Python {first.python}"
        model = f"{first.opset}, {first.ir_version}"
        rows.append((names, version, str(first.api), model, "yes" if first.supported else "no", system))
    head = ("Triton", "ONNX Runtime", "API version", "newest opset, IR version", "loads our library", "image")
    return table(head, rows)


GENERATORS: dict[str, Callable[[], str]] = {
    "config-global-keys": _global_keys,
    "config-layer-keys": _layer_keys,
    "config-activation-keys": _activation_keys,
    "config-weight-keys": _weight_keys,
    "config-tensor-keys": _tensor_keys,
    "config-activation-algorithms": _activation_algorithms,
    "config-weight-algorithms": _weight_algorithms,
    "simple-config-messages": _simple_config_messages,
    "simple-config-proto": _simple_config_proto,
    "record-messages": _record_messages,
    "record-proto": _record_proto,
    "errors": _errors,
    "methods": _methods,
    "grid-parameters": _grid_parameters,
    "method-parameters": _method_parameters,
    "triton-releases": _triton_releases,
}


WHOLE_PAGES = {"reference/cli.md": "generate_cli", "reference/passes.md": "generate_passes"}
"""Pages that are generated from the first line to the last, and the script beside this one that does it."""


def whole_page(module_name: str) -> str:
    """What ``generate()`` of a script beside this one returns."""
    page: str = _beside(module_name).generate()
    return page


def _beside(module_name: str) -> Any:
    spec = importlib.util.spec_from_file_location(module_name, DOCS / f"{module_name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATORS |= _beside("generate_gates").generators(table)


def render_page(text: str) -> str:
    """The page with every generated part made anew.

    Raises:
        KeyError: The page names a generator that does not exist.
    """
    return _BLOCK.sub(lambda m: m[1] + "\n" + GENERATORS[m["name"]]().rstrip("\n") + "\n\n" + m[3], text)


def stale_pages(folder: Path = DOCS) -> dict[Path, str]:
    """Pages whose generated parts differ from the code, with the text they should have."""
    pages = {}
    for page in sorted(folder.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        module = WHOLE_PAGES.get(page.relative_to(folder).as_posix())
        wanted = render_page(text) if module is None else whole_page(module)
        if wanted != text:
            pages[page] = wanted
    return pages


def main(arguments: list[str] | None = None, folder: Path = DOCS) -> int:
    """Write the pages, or with ``--check`` only tell which are out of date (exit code 1)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args(arguments)
    stale = stale_pages(folder)
    for page, text in stale.items():
        print(f"{'out of date' if options.check else 'written'}: {page.relative_to(folder)}")
        if not options.check:
            page.write_text(text, encoding="utf-8")
    return int(bool(stale) and options.check)


if __name__ == "__main__":
    sys.exit(main())
