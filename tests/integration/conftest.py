"""Sensible inputs for the real models: photos, rendered text lines, files of many kinds."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

TEXT = (
    "Quantization maps a range of real numbers onto a few integers so that inference needs less memory less energy "
    "and less time 2026 invoice total 1284.50 EUR Room 17B departure 09:45 gate C12 platform street avenue station "
    "open closed exit push pull warning fragile this side up handle with care best before serial number"
)
WORDS = TEXT.split()


def _text_line(text: str, width: int, rng: random.Random) -> np.ndarray:
    """A line of dark text on a light ground, 48 high, scaled to −1…1 as PP-OCR wants it."""
    image = Image.new("RGB", (width, 48), tuple(rng.randint(180, 255) for _ in range(3)))
    font = ImageFont.load_default(size=rng.randint(22, 32))
    ImageDraw.Draw(image).text(
        (6, rng.randint(2, 10)), text, font=font, fill=tuple(rng.randint(0, 90) for _ in range(3))
    )
    return ((np.asarray(image, np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]


@pytest.fixture(scope="session")
def text_lines():
    """Feeds of rendered text lines for PP-OCR."""

    def _lines(count: int, width: int, seed: int) -> list[dict[str, np.ndarray]]:
        rng = random.Random(seed)
        return [{"x": _text_line(" ".join(rng.sample(WORDS, 4))[:20], width, rng)} for _ in range(count)]

    return _lines


@pytest.fixture(scope="session")
def scaled_photos(photos):
    """Feeds of photos, squeezed to a square and scaled to 0…1 (NudeNet's YOLO)."""

    def _feeds(split: str, count: int, size: int) -> list[dict[str, np.ndarray]]:
        feeds = []
        for path, _ in photos(split)[:count]:
            image = Image.open(path).convert("RGB").resize((size, size))
            feeds.append({"images": (np.asarray(image, np.float32) / 255).transpose(2, 0, 1)[None]})
        return feeds

    return _feeds


def _magika_input(content: bytes) -> np.ndarray:
    """First and last 1024 bytes, blanks stripped, padded with 256."""
    row = np.full(2048, 256, np.int32)
    head, tail = content[:1024].lstrip(), content[-1024:].rstrip()
    row[: len(head)] = np.frombuffer(head, np.uint8)
    row[2048 - len(tail) :] = np.frombuffer(tail, np.uint8)
    return row[None]


@pytest.fixture(scope="session")
def file_bytes():
    """Feeds of file contents for Magika: sources, shared objects, archives of the Python installation."""

    def _feeds(count: int, seed: int) -> list[dict[str, np.ndarray]]:
        root = Path(sysconfig.get_paths()["stdlib"])
        files = [
            p for pattern in ("*.py", "*/*.py", "*/*.so", "*/*.txt", "*/*.exe") for p in sorted(root.glob(pattern))
        ]
        files = [p for p in files if p.stat().st_size > 2048]
        return [{"bytes": _magika_input(p.read_bytes())} for p in random.Random(seed).sample(files, count)]

    return _feeds


@pytest.fixture
def run_benchmark(tmp_path):
    """Run a script of `benchmarks/` for one round; gives the finished process and the JSON document."""

    def _run(script, *arguments, **variables):
        file = tmp_path / "report.json"
        command = [sys.executable, BENCHMARKS / script, "--repeats", "1", "--json", file, *arguments]
        done = subprocess.run(
            list(map(str, command)),
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done, json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    return _run
