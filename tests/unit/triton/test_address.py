import pytest

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "protocol", "address"),
    [
        ("localhost", None, Address("http", "localhost:8000")),
        ("localhost", "grpc", Address("grpc", "localhost:8001")),
        ("triton.models.svc:80", None, Address("http", "triton.models.svc:80")),
        ("http://10.0.0.1:9000/proxy/", None, Address("http", "10.0.0.1:9000/proxy")),
        ("https://models.example.org", "http", Address("http", "models.example.org:8000", tls=True)),
        ("GRPC://host:1", None, Address("grpc", "host:1")),
        ("grpcs://host:443", "grpc", Address("grpc", "host:443", tls=True)),
        ("[::1]:8001", "grpc", Address("grpc", "[::1]:8001")),
    ],
)
def test_addresses(text, protocol, address):
    assert parse_address(text, protocol) == address


@pytest.mark.parametrize("text", ["", "ftp://host", "host:port", "http://", "host:123456", "http://host?x=1", "a b"])
def test_no_addresses(text):
    with pytest.raises(TritonError, match="is not the address of a Triton server"):
        parse_address(text)


def test_two_protocols():
    with pytest.raises(TritonError, match="is an address of http, but grpc was asked for"):
        parse_address("http://host:8000", "grpc")
    with pytest.raises(TritonError, match="has a path"):
        parse_address("grpc://host:8001/proxy")


def test_text_is_an_address_again():
    for text in ("https://host:1/path", "grpc://host:2", "grpcs://[::1]:3"):
        assert str(parse_address(text)) == text
