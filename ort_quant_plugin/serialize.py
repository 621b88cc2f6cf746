"""Write a ModelProto tensor by tensor.

protobuf serializes a message as a whole, into memory, and needs up to four times its size on the way. A message on the
wire is a sequence of fields in any order, so the initializers, nearly all of a model, can follow one at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

__all__ = ["write_model_proto"]

_SMALL = 4096
"""Bytes; the constants below are left where they are."""


def write_model_proto(model: ir.Model, stream: BinaryIO) -> None:
    """Serialize ``model``; it is not changed.

    Args:
        model: Any model below protobuf's limit of 2 GB.
        stream: Where the bytes go; the same message as ``onnx_ir.to_proto(model)``, not the same order of fields.
    """
    frame = model.clone()
    constants = {name: value.const_value for name, value in frame.graph.initializers.items()}
    large = [(name, tensor) for name, tensor in constants.items() if tensor is not None and tensor.nbytes > _SMALL]
    for name, _ in large:
        frame.graph.initializers[name].const_value = ir.tensor(np.zeros(0, np.uint8))
    proto = ir.to_proto(frame)
    later = {name for name, _ in large}
    small = [tensor for tensor in proto.graph.initializer if tensor.name not in later]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    tag = _tag(onnx.GraphProto, "initializer")
    sizes = [_serialized(name, tensor).ByteSize() for name, tensor in large]
    total = len(graph) + sum(len(tag) + len(_varint(size)) + size for size in sizes)
    stream.write(proto.SerializeToString() + _tag(onnx.ModelProto, "graph") + _varint(total) + graph)
    for (name, tensor), size in zip(large, sizes, strict=True):
        stream.write(tag + _varint(size))
        stream.write(_serialized(name, tensor).SerializeToString())


def _serialized(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    proto: onnx.TensorProto = ir.serde.serialize_tensor(tensor)
    proto.name = name
    return proto


def _tag(message: type[Message], field: str) -> bytes:
    """Of a length-delimited field (wire type 2)."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | 2)


def _varint(value: int) -> bytes:
    def groups(rest: int) -> Iterator[int]:
        while rest > 0x7F:
            yield rest & 0x7F | 0x80
            rest >>= 7
        yield rest

    return bytes(groups(value))
