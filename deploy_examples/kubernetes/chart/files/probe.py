"""Start-up, readiness and liveness probe: one real inference of a model, with zeros.

    probe.py MODEL [--url http://127.0.0.1:8000] [--timeout SECONDS] [--shape INPUT=1,3,224,224]

Exit code 0: the model answered with finite numbers, or refused because its queue is full (busy is not dead).
Exit code 1: anything else; the reason is on stderr, where `kubectl describe pod` shows it.

/v2/health/ready is not enough: when the process of a python-backend model dies, Triton before 26.04 goes on calling
the model ready while every request fails. Only the standard library is used: the server image has no client library.
"""

import argparse
import json
import math
import struct
import sys
import urllib.error
import urllib.request

SIZES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2, "UINT32": 4, "INT32": 4}
SIZES |= {"FP32": 4, "BYTES": 4, "UINT64": 8, "INT64": 8, "FP64": 8}  # an empty string is four bytes of length
FLOATS = {"FP16": "e", "FP32": "f", "FP64": "d"}
BUSY = "maximum queue size"


def fetch(url, timeout, body=None, header_length=None):
    """Return body and headers of a GET, or of a POST when there is something to send."""
    request = urllib.request.Request(url, data=body)
    if header_length is not None:
        request.add_header("Inference-Header-Content-Length", str(header_length))
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return response.read(), response.headers


def zeros(metadata, shapes):
    """Return the request for one inference: its JSON header and the bytes of all inputs, which are zeros."""
    inputs, data = [], b""
    for item in metadata["inputs"]:
        shape = shapes.get(item["name"]) or [max(int(size), 1) for size in item["shape"]]
        size = math.prod(shape) * SIZES[item["datatype"]]
        parameters = {"binary_data_size": size}
        inputs.append({"name": item["name"], "datatype": item["datatype"], "shape": shape, "parameters": parameters})
        data += bytes(size)
    return json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode(), data


def check(answer, header_length):
    """Raise ValueError unless there are outputs and every number in them is finite."""
    outputs, offset = json.loads(answer[:header_length])["outputs"], header_length
    for output in outputs:
        size, kind = output["parameters"]["binary_data_size"], output["datatype"]
        data = answer[offset : offset + size]
        values = struct.iter_unpack(f"<{FLOATS[kind]}", data) if kind in FLOATS else ()
        if not data or not all(math.isfinite(value) for (value,) in values):
            raise ValueError(f"output {output['name']!r} is empty or not finite")
        offset += size
    if not outputs:
        raise ValueError("no outputs")


def infer(url, model, timeout, shapes):
    """Make the inference; raises when it fails."""
    address = f"{url}/v2/models/{model}"
    header, data = zeros(json.loads(fetch(address, timeout)[0]), shapes)
    answer, headers = fetch(f"{address}/infer", timeout, header + data, len(header))
    check(answer, int(headers["Inference-Header-Content-Length"]))


def shape_option(text):
    """Read INPUT=1,3,224,224."""
    name, _, sizes = text.partition("=")
    return name, [int(size) for size in sizes.split(",")]


def main():
    """Run the probe and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--timeout", type=float, default=4)
    parser.add_argument("--shape", type=shape_option, action="append", default=[], help="for inputs of free size")
    options = parser.parse_args()
    try:
        infer(options.url, options.model, options.timeout, dict(options.shape))
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
        print(f"{options.model}: HTTP {error.code}: {reason}", file=sys.stderr)
        return 0 if BUSY in reason else 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{options.model}: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
