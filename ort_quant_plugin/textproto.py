"""Text-protobuf formats from a declarative table (:mod:`ort_quant_plugin.schemas` holds the tables).

Message classes are built with protobuf's descriptors when first used, so no generated code is shipped and
any protobuf runtime from 4.25 on will do. The same table renders as ``.proto`` text.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_quant_plugin.errors import OrtQuantError

__all__ = [
    "EnumType",
    "Field",
    "MessageType",
    "Schema",
    "message_class",
    "parse_text",
    "print_text",
    "render_proto",
]


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        name: Field name, as written in files.
        type: ``float``, ``int32``, ``uint32``, ``bool``, ``string`` or the name of a message or enum.
        number: Field number.
        doc: One sentence for the reference pages.
        label: ``optional``, ``repeated`` or ``required``.
        default: Default in the form that ``.proto`` files use, or ``None``.
        oneof: Name of the oneof the field belongs to; of such fields the last one in the file wins.
    """

    name: str
    type: str
    number: int
    doc: str
    label: str = "optional"
    default: str | None = None
    oneof: str | None = None


@dataclass(frozen=True)
class MessageType:
    """A message: its name, one sentence, its fields."""

    name: str
    doc: str
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class EnumType:
    """An enum: its name, one sentence, its values."""

    name: str
    doc: str
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Schema:
    """A file of messages and enums.

    Attributes:
        name: File name of the ``.proto`` rendering, without suffix.
        root: The message a file of this kind holds.
        page: The reference page that describes it.
        messages: All messages.
        enums: All enums.
    """

    name: str
    root: str
    page: str
    messages: tuple[MessageType, ...]
    enums: tuple[EnumType, ...] = ()

    def message(self, name: str) -> MessageType:
        """The message called ``name``."""
        return next(m for m in self.messages if m.name == name)


_PACKAGE = "ort_quant"
_SCALARS = {"float": "FLOAT", "int32": "INT32", "uint32": "UINT32", "bool": "BOOL", "string": "STRING"}
_POSITION = re.compile(r"^\d+(?::\d+)? : ")


@functools.lru_cache(maxsize=8)
def message_class(schema: Schema) -> Any:
    """The protobuf class of a schema's root message.

    It lives in a descriptor pool of its own: the global one would clash with AMCT's generated modules
    when both are imported.
    """
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file_descriptor(schema))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{schema.root}"))


def _file_descriptor(schema: Schema) -> Any:
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(name=f"{schema.name}.proto", package=_PACKAGE, syntax="proto2")
    enums = {enum.name for enum in schema.enums}
    for enum in schema.enums:
        enum_type = file.enum_type.add(name=enum.name)
        for name, number in enum.values:
            enum_type.value.add(name=name, number=number)
    for message in schema.messages:
        message_type = file.message_type.add(name=message.name)
        oneofs = list(dict.fromkeys(field.oneof for field in message.fields if field.oneof))
        for oneof in oneofs:
            message_type.oneof_decl.add(name=oneof)
        for field in message.fields:
            entry = message_type.field.add(name=field.name, number=field.number)
            entry.label = getattr(entry, f"LABEL_{field.label.upper()}")
            if field.type in _SCALARS:
                entry.type = getattr(entry, f"TYPE_{_SCALARS[field.type]}")
            else:
                entry.type = entry.TYPE_ENUM if field.type in enums else entry.TYPE_MESSAGE
                entry.type_name = f".{_PACKAGE}.{field.type}"
            if field.default is not None:
                entry.default_value = field.default
            if field.oneof:
                entry.oneof_index = oneofs.index(field.oneof)
    return file


def parse_text(text: str, schema: Schema, *, path: str, error: type[OrtQuantError]) -> Any:
    """Parse text into the root message of a schema.

    Fields may come in any order, strings in either kind of quotes; of an optional field given twice, and
    of two members of a oneof, the last one wins (protobuf's merge rules). Required fields are not checked.

    Args:
        text: File content.
        schema: Which format.
        path: File name for the message.
        error: The error to raise.

    Raises:
        OrtQuantError: As ``error``, with details ``path``, ``line`` and ``column`` (1-based).
    """
    from google.protobuf import text_format

    message = message_class(schema)()
    try:
        text_format.Merge(text, message)
    except text_format.ParseError as cause:
        line, column = cause.GetLine(), cause.GetColumn()
        what = _POSITION.sub("", str(cause)).strip().replace(f"{_PACKAGE}.", "").rstrip(".")
        place = "" if line is None else f", line {line}" + ("" if column is None else f", column {column}")
        raise error(
            f"{path}{place}: not a valid {schema.root} text: {what}.",
            hint=f"Correct the file at that place; docs/reference/{schema.page} describes the format.",
            path=path,
            line=line,
            column=column,
        ) from cause
    except (UnicodeError, ValueError) as cause:  # a quoted string whose escapes are not UTF-8
        raise error(
            f"{path}: not a valid {schema.root} text: {cause}.",
            hint="Correct the file.",
            path=path,
            line=None,
            column=None,
        ) from cause
    return message


def print_text(message: Any) -> str:
    """Print a message in protobuf's standard layout: two-space indent, one field a line, UTF-8 as it is."""
    from google.protobuf import text_format

    text: str = text_format.MessageToString(message, as_utf8=True)
    return text


def render_proto(schema: Schema) -> str:
    """Render a schema as the text of a ``.proto`` file (proto2)."""
    lines = ['syntax = "proto2";', f"package {_PACKAGE};"]
    for enum in schema.enums:
        lines += ["", f"// {enum.doc}", f"enum {enum.name} {{"]
        lines += [f"  {name} = {number};" for name, number in enum.values]
        lines.append("}")
    for message in schema.messages:
        lines += ["", f"// {message.doc}", f"message {message.name} {{"]
        lines += _render_fields(message)
        lines.append("}")
    return "\n".join(lines) + "\n"


def _render_fields(message: MessageType) -> list[str]:
    lines: list[str] = []
    open_oneof: str | None = None
    for field in message.fields:
        if field.oneof != open_oneof:
            if open_oneof:
                lines.append("  }")
            if field.oneof:
                lines.append(f"  oneof {field.oneof} {{")
            open_oneof = field.oneof
        default = field.default
        if default is not None and field.type == "string":
            default = f'"{default}"'
        option = "" if default is None else f" [default = {default}]"
        label = "  " if field.oneof else f"{field.label} "
        doc = field.doc.replace("`", "")
        lines.append(f"  {label}{field.type} {field.name} = {field.number}{option};  // {doc}")
    if open_oneof:
        lines.append("  }")
    return lines
