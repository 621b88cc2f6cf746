"""Train the demo network and write `digits_cnn.onnx` and `digits.npz`. Run: ``python train.py [--out FOLDER]``.

One thread and fixed seeds: the same machine and PyTorch give the same file; elsewhere the accuracy moves by a few
images, and the script refuses to write a model below 98 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from data import SEED, Split, load_split, write_shipped
from export import write_model
from network import DigitsNet
from torch import Tensor, nn

__all__ = ["main"]

EPOCHS = 60
BATCH = 64
REQUIRED_ACCURACY = 0.98
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "ort_quant_plugin" / "demo"


def _tensor(images: np.ndarray) -> Tensor:
    """(N, 8, 8) uint8 in 0..16 → (N, 1, 8, 8) float32 in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32) / 16)[:, None]


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move the whole batch by up to one pixel each way: the only augmentation 8×8 pixels bear."""
    down, right = torch.randint(0, 3, (2,), generator=generator).tolist()
    return nn.functional.pad(images, (1, 1, 1, 1))[:, :, down : down + 8, right : right + 8]


def train(split: Split) -> DigitsNet:
    """Train on the training split only; returns the network in inference mode."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    images, labels = _tensor(split.images[split.training]), torch.from_numpy(split.labels[split.training]).long()
    network = DigitsNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            optimizer.zero_grad()
            loss(network(_shift(images[chosen], generator)), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: DigitsNet, split: Split) -> float:
    """Share of evaluation images whose largest logit is the label, 0 to 1."""
    predicted = network(_tensor(split.images[split.evaluation])).argmax(1).numpy()
    return float((predicted == split.labels[split.evaluation]).mean())


def main() -> int:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder to write to (default: the package)")
    folder = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    split = load_split()
    network = train(split)
    reached = accuracy(network, split)
    sys.stdout.write(f"evaluation accuracy {reached:.4f} on {len(split.evaluation)} images\n")
    if reached < REQUIRED_ACCURACY:
        sys.stderr.write(f"error: below {REQUIRED_ACCURACY}, nothing written\n")
        return 1
    write_model({name: value.numpy() for name, value in network.state_dict().items()}, folder / "digits_cnn.onnx")
    write_shipped(split, folder / "digits.npz")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
