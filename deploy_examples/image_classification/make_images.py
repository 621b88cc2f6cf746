"""Write ten of the demo's digits as PNG files, one of each, named after what they show.

Pixels are ink · 15, so that dividing by 240 gives the network the very numbers it was trained on (ink / 16).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ort_quant_plugin.demo import load_digits


def main(folder: Path) -> None:
    """Write ``0.png`` … ``9.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    for digit in range(10):
        image = digits.evaluation[int(np.argmax(digits.labels == digit)), 0]
        Image.fromarray((image * 240).astype(np.uint8)).save(folder / f"{digit}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
