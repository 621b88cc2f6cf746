"""JSON documents of gates: versioned by schema name, readable, small differences between versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.files import read_text, write_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

__all__ = ["broken_document", "read_document", "write_document"]

_WIDTH = 110


def write_document(path: str | os.PathLike[str], schema: str, content: Mapping[str, Any]) -> None:
    """Write a JSON document, whole or not at all.

    Args:
        path: The file; missing folders are made.
        schema: Name and version of its form, the first entry.
        content: The rest.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, "".join(_lines({"schema": schema, **content}, "")) + "\n")


def read_document(path: str | os.PathLike[str], schema: str, *, what: str, hint: str) -> dict[str, Any]:
    """Read what :func:`write_document` wrote.

    Args:
        path: The file.
        schema: The form it must have.
        what: What the file is, for messages (``"Gate report"``).
        hint: Where such a file comes from.

    Raises:
        ConfigError: It is missing, unreadable, no JSON, or of another form.
    """
    text = read_text(path, what=what, error=ConfigError, hint=hint)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken_document(path, what, f"is not JSON ({error})", hint) from error
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        raise broken_document(path, what, f"has the schema {found!r}; expected {schema!r}", hint)
    return dict(document)


def broken_document(path: str | os.PathLike[str], what: str, complaint: str, hint: str) -> ConfigError:
    """The error for a file that is not what it should be."""
    return ConfigError(f"{what} {str(path)!r} {complaint}.", hint=hint, path=str(path))


def _lines(value: Any, indent: str) -> Iterator[str]:
    """JSON with one entry a line, but rows of numbers as many as fit: a thousand samples take a screen."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        yield "{\n"
        for index, (key, item) in enumerate(value.items()):
            yield f"{inner if index == 0 else ',' + chr(10) + inner}{_compact(str(key))}: "
            yield from _lines(item, inner)
        yield f"\n{indent}}}"
    elif isinstance(value, list) and len(text := _compact(value)) > _WIDTH - len(indent):
        yield "[\n"
        if any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                yield inner if index == 0 else f",\n{inner}"
                yield from _lines(item, inner)
        else:
            yield inner + f",\n{inner}".join(_filled([_compact(item) for item in value], _WIDTH - len(inner)))
        yield f"\n{indent}]"
    else:
        yield text if isinstance(value, list) else _compact(value)


def _filled(items: list[str], width: int) -> Iterator[str]:
    line = ""
    for item in items:
        if line and len(line) + len(item) + 1 > width:
            yield line
            line = ""
        line += f",{item}" if line else item
    yield line


def _compact(value: Any) -> str:
    return json.dumps(_whole(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _whole(value: Any) -> Any:
    """Write 1.0 as 1 in rows: hits are most of what these files hold."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
