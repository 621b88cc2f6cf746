"""Classify image files over HTTP: the server decodes and prepares them, runs the int8 model, names the classes."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tritonclient.http as triton


def classify(client: triton.InferenceServerClient, model: str, image: Path) -> list[tuple[str, float]]:
    """Return the best classes of an image and their scores, best first."""
    encoded = triton.InferInput("image", [1, 1], "BYTES")
    encoded.set_data_from_numpy(np.array([[image.read_bytes()]], dtype=np.object_))
    outputs = [triton.InferRequestedOutput(name) for name in ("label", "score")]
    answer = client.infer(model, [encoded], outputs=outputs)
    labels, scores = answer.as_numpy("label")[0], answer.as_numpy("score")[0]
    return [(label.decode(), float(score)) for label, score in zip(labels, scores, strict=True)]


def main() -> None:
    """Print a line for each image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--model", default="digits_ensemble")
    options = parser.parse_args()
    with triton.InferenceServerClient(options.url) as client:
        for image in options.images:
            (label, score), *_ = classify(client, options.model, image)
            print(f"{image.name}: {label} ({score:.4f})")


if __name__ == "__main__":
    main()
