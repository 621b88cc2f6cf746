"""Choose which versions of a model the server holds: `rollout.py 1`, `rollout.py 1 2`, `rollout.py 2`.

The server must run with explicit model control. The load request carries the configuration of the repository with
another version policy. Versions that come are loaded before those that go are taken away, so requests are answered all
the time. The repository is not changed: after a restart of the server, say it again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import tritonclient.http as triton
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2


def configuration(path: Path, versions: list[int]) -> str:
    """Return a config.pbtxt as the load request wants it, JSON, serving these versions."""
    config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    config.version_policy.Clear()
    config.version_policy.specific.versions.extend(versions)
    return json_format.MessageToJson(config, preserving_proto_field_name=True)


def states(client: triton.InferenceServerClient, name: str) -> dict[str, str]:
    """Return the state of each version that the server knows."""
    index = client.get_model_repository_index()
    return {entry["version"]: entry["state"] for entry in index if entry["name"] == name and "version" in entry}


def settled(client: triton.InferenceServerClient, name: str, seconds: float = 60) -> dict[str, str]:
    """Wait until no version is on its way in or out: a version that leaves answers the requests it has taken."""
    end = time.monotonic() + seconds
    while {"LOADING", "UNLOADING"} & set(states(client, name).values()) and time.monotonic() < end:
        time.sleep(0.1)
    return states(client, name)


def main() -> None:
    """Load, and print what is served now."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="+", type=int)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--name", default="digits")
    options = parser.parse_args()
    config = configuration(options.repository / options.name / "config.pbtxt", options.versions)
    with triton.InferenceServerClient(options.url) as client:
        client.load_model(options.name, config=config)
        for version, state in settled(client, options.name).items():
            print(f"{options.name} version {version}: {state}")


if __name__ == "__main__":
    main()
