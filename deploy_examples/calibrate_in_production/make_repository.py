"""Write a model repository with the calibration model of a float model: it answers requests and watches."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path


def main() -> None:
    """Write ``calibration.onnx``, its record file and the repository."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("model", nargs="?", type=Path, default=demo_model_path())
    parser.add_argument("--name", default="digits_calibration")
    parser.add_argument("--method", default="kld", help="any but ifmr and hfmg, whose operators watch in their own way")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    config, calibration = options.out / "config.json", options.out / "calibration.onnx"

    oq.create_quant_config(str(config), str(options.model))
    layers = json.loads(config.read_text(encoding="utf-8"))
    for layer in layers.values():
        if isinstance(layer, dict) and "activation_quant_params" in layer:
            layer["activation_quant_params"] = {"act_algo": options.method, "num_bits": 8, "asymmetric": True}
    config.write_text(json.dumps(layers, indent=2), encoding="utf-8")
    oq.quantize_model(str(config), str(options.model), str(calibration), str(options.out / "record.txt"))

    command = [sys.executable, "-m", "ort_quant_plugin", "triton", "new", calibration, "--name", options.name]
    subprocess.run([*command, "--repository", options.out / "repository"], check=True)


if __name__ == "__main__":
    main()
