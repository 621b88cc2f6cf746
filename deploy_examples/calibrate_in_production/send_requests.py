"""Send samples one at a time from several clients at once, as production would.

The clients know nothing of calibration: the model is called like any other.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import tritonclient.http as triton


def send(url: str, model: str, samples: np.ndarray) -> list[int]:
    """Return the class of each sample."""
    with triton.InferenceServerClient(url) as client:
        metadata = client.get_model_metadata(model)
        tensor = triton.InferInput(metadata["inputs"][0]["name"], samples[:1].shape, metadata["inputs"][0]["datatype"])
        output = metadata["outputs"][0]["name"]
        classes = []
        for sample in samples:
            tensor.set_data_from_numpy(sample[np.newaxis])
            answer = client.infer(model, [tensor], outputs=[triton.InferRequestedOutput(output)])
            classes.append(int(answer.as_numpy(output)[0].argmax()))
        return classes


def main() -> None:
    """Share the samples among the clients and print how often each class came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path, help=".npy file, samples along the first axis")
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--model", default="digits_calibration")
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    shares = np.array_split(np.load(options.samples), options.clients)
    with ThreadPoolExecutor(options.clients) as pool:
        answers = pool.map(lambda share: send(options.url, options.model, share), shares)
        counts = Counter(chain.from_iterable(answers))
    print(f"{counts.total()} requests answered; class and how often:", dict(sorted(counts.items())))


if __name__ == "__main__":
    main()
