"""Give the same images to all four models of the repository and compare their answers with the float model's.

The images go through the served pre-processing first, so that every model gets the same tensor.
Exit code 1: the int8 model does not give the bits of the fake-quantized one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

FORMS = {"float": "_float", "fake_quant": "_fake_quant", "ort": "", "qdq": "_qdq"}


def infer(client: triton.InferenceServerClient, model: str, data: np.ndarray) -> np.ndarray:
    """Run a model with one input and one output, whatever their names and types."""
    metadata = client.get_model_metadata(model)
    tensor = triton.InferInput(metadata.inputs[0].name, data.shape, metadata.inputs[0].datatype)
    tensor.set_data_from_numpy(data)
    return client.infer(model, [tensor]).as_numpy(metadata.outputs[0].name)


def precision(client: triton.InferenceServerClient, model: str) -> str:
    """Return the tag that the model's metrics carry."""
    return client.get_model_config(model).config.metric_tags["precision"]


def main() -> int:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--url", default="localhost:8001")
    parser.add_argument("--name", default="digits")
    options = parser.parse_args()
    with triton.InferenceServerClient(options.url) as client:
        encoded = [np.array([[path.read_bytes()]], dtype=np.object_) for path in options.images]
        tensors = [infer(client, f"{options.name}_preprocess", image) for image in encoded]
        models = {form: f"{options.name}{suffix}" for form, suffix in FORMS.items()}
        answers = {
            form: np.concatenate([infer(client, model, tensor) for tensor in tensors]) for form, model in models.items()
        }
        print(f"{'model':<28} {'precision':<12} {'same class':>10} {'largest difference':>18}")
        for form, model in models.items():
            same = np.mean(answers[form].argmax(-1) == answers["float"].argmax(-1))
            difference = np.abs(answers[form] - answers["float"]).max()
            print(f"{model:<28} {precision(client, model):<12} {same:>10.1%} {difference:>18.5f}")
    equal = np.array_equal(answers["ort"], answers["fake_quant"])
    print(f"int8 model and its simulation give {'the same bits' if equal else 'DIFFERENT bits'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
