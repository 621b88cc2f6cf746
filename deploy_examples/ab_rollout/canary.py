"""Send a share of the requests to the new version, compare the answers, and say whether to go on.

Every request names its version: one without a version gets the highest that is loaded, so a canary needs clients, or a
gateway before them, that choose. Requests that go to the new version are also put to the old one, whose answer is what
the caller gets as long as the new one is on trial.

Exit code 1: the versions agree on too few answers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton


class Canary:
    """A client that sends a share of its requests to version 2 as well and keeps count."""

    def __init__(self, client: triton.InferenceServerClient, model: str, share: float, seed: int = 0) -> None:
        self.client, self.model, self.share = client, model, share
        self.random = np.random.default_rng(seed)
        metadata = client.get_model_metadata(model, "1")
        self.input, self.output = metadata["inputs"][0], metadata["outputs"][0]["name"]
        self.tried = self.agreed = 0

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Answer a request; the answer is version 1's."""
        answer = self._ask(batch, "1")
        if self.random.random() < self.share:
            self.tried += len(batch)
            self.agreed += int((self._ask(batch, "2").argmax(-1) == answer.argmax(-1)).sum())
        return answer

    def _ask(self, batch: np.ndarray, version: str) -> np.ndarray:
        tensor = triton.InferInput(self.input["name"], batch.shape, self.input["datatype"])
        tensor.set_data_from_numpy(batch)
        return self.client.infer(self.model, [tensor], model_version=version).as_numpy(self.output)


def mean_milliseconds(client: triton.InferenceServerClient, model: str, version: str) -> float:
    """Return how long the server took for a request, queueing included."""
    success = client.get_inference_statistics(model, version)["model_stats"][0]["inference_stats"]["success"]
    return success.get("ns", 0) / max(success.get("count", 0), 1) / 1e6


def main() -> int:
    """Send the samples one by one and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, help=".npy file, samples along the first axis")
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--name", default="digits")
    parser.add_argument("--share", type=float, default=0.2, help="of the requests, 0 to 1 (default: 0.2)")
    parser.add_argument("--agreement", type=float, default=0.98, help="of the answers, 0 to 1 (default: 0.98)")
    options = parser.parse_args()
    with triton.InferenceServerClient(options.url) as client:
        canary = Canary(client, options.name, options.share)
        samples = np.load(options.samples)
        for sample in samples:
            canary.infer(sample[np.newaxis])
        for version in ("1", "2"):
            milliseconds = mean_milliseconds(client, options.name, version)
            print(f"version {version}: {milliseconds:.3f} ms a request in the server")
    agreement = canary.agreed / max(canary.tried, 1)
    go_on = canary.tried > 0 and agreement >= options.agreement
    print(f"{canary.tried} of {len(samples)} requests tried with version 2: {agreement:.1%} the same class")
    print("go on: rollout.py 2" if go_on else "go back: rollout.py 1")
    return 0 if go_on else 1


if __name__ == "__main__":
    sys.exit(main())
