"""Addresses of Triton servers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ort_quant_plugin.errors import TritonError

__all__ = ["Address", "Protocol", "parse_address"]

Protocol = Literal["http", "grpc"]

_SCHEMES: dict[str, tuple[Protocol, bool]] = {
    "http": ("http", False),
    "https": ("http", True),
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
}
_PORTS = {"http": 8000, "grpc": 8001}


@dataclass(frozen=True)
class Address:
    """Where a server is and how to talk to it.

    Attributes:
        protocol: ``http`` or ``grpc``.
        location: ``host:port``, for http with the path of a proxy where there is one.
        tls: Whether the connection is encrypted.
    """

    protocol: Protocol
    location: str
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.protocol}{'s' if self.tls else ''}://{self.location}"


def parse_address(url: str, protocol: Protocol | None = None) -> Address:
    """Read ``[scheme://]host[:port][/path]``; schemes are http, https, grpc and grpcs.

    Args:
        url: The address; the port defaults to Triton's own, 8000 for http and 8001 for grpc.
        protocol: What an address without a scheme means; default ``http``.

    Raises:
        TritonError: It is malformed, or its scheme is of another protocol.
    """
    found = re.fullmatch(r"(?:(\w+)://)?(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?(/[^\s?#]*)?", url.strip())
    if found is None or (found[1] is not None and found[1].lower() not in _SCHEMES):
        raise TritonError(
            f"{url!r} is not the address of a Triton server.",
            hint="Give host:port, http://host:port, https://…, grpc://host:port or grpcs://….",
            url=url,
        )
    kind, tls = _SCHEMES[(found[1] or protocol or "http").lower()]
    if protocol is not None and protocol != kind:
        raise TritonError(
            f"{url!r} is an address of {kind}, but {protocol} was asked for.",
            hint="Give the port of the other protocol with its scheme, or leave the protocol out.",
            url=url,
            protocol=protocol,
        )
    path = (found[4] or "").rstrip("/")
    if path and kind == "grpc":
        raise TritonError(f"The grpc address {url!r} has a path.", hint="Give host and port only.", url=url)
    return Address(kind, f"{found[2]}:{found[3] or _PORTS[kind]}{path}", tls)
