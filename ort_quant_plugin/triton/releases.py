"""Triton releases, the ONNX Runtime inside, and what a custom-op library may ask of them.

Source: the ONNX Runtime version is the one Triton's ``build.py`` names on each release branch; a library may ask for
at most the API version of that ONNX Runtime. The system libraries are those of the image's Ubuntu.
"""

from __future__ import annotations

from dataclasses import dataclass

from ort_quant_plugin.errors import ConfigError

__all__ = ["API_NEEDED", "OLDEST", "RELEASES", "Release", "release"]

API_NEEDED = 17
"""API version our libraries ask ONNX Runtime for."""
OLDEST = "24.03"
"""First Triton release whose ONNX Runtime has that API."""


@dataclass(frozen=True)
class Release:
    """One Triton release, as its container image ships it.

    Attributes:
        name: ``YY.MM``.
        onnxruntime: Version of ONNX Runtime.
        ubuntu: Version of Ubuntu the image is based on.
    """

    name: str
    onnxruntime: str
    ubuntu: str

    @property
    def api(self) -> int:
        """Highest API version this ONNX Runtime gives (its minor version)."""
        return int(self.onnxruntime.split(".")[1])

    @property
    def opset(self) -> int:
        """Newest default operator set this ONNX Runtime takes."""
        return _MODELS[self.api][0]

    @property
    def ir_version(self) -> int:
        """Newest ONNX file format this ONNX Runtime reads."""
        return _MODELS[self.api][1]

    @property
    def glibc(self) -> str:
        """Version of the C library, and so the highest ``GLIBC_…`` symbol version a library may need."""
        return _SYSTEMS[self.ubuntu][0]

    @property
    def glibcxx(self) -> str:
        """Highest ``GLIBCXX_…`` symbol version of the C++ library."""
        return _SYSTEMS[self.ubuntu][1]

    @property
    def python(self) -> str:
        """Version of Python the python backend runs."""
        return _SYSTEMS[self.ubuntu][2]

    @property
    def image(self) -> str:
        """The container image with the ONNX Runtime backend; the specialised ones (vllm, trtllm) lack it."""
        return f"nvcr.io/nvidia/tritonserver:{self.name}-py3"

    @property
    def supported(self) -> bool:
        """Whether its ONNX Runtime can load our libraries."""
        return self.api >= API_NEEDED


# API → newest opset and IR version; measured, with a one-node model on the wheels of these versions
_MODELS = {
    16: (19, 9),
    17: (20, 9),
    18: (21, 10),
    19: (21, 10),
    20: (21, 10),
    21: (22, 10),
    22: (22, 10),
    23: (23, 11),
    24: (25, 13),
    27: (26, 13),
    28: (26, 13),
}

# Ubuntu → glibc, highest GLIBCXX symbol version, Python
_SYSTEMS = {"22.04": ("2.35", "3.4.30", "3.10"), "24.04": ("2.39", "3.4.33", "3.12")}

_ONNXRUNTIME = {
    "1.16.0": ("23.09", "23.10"),
    "1.16.3": ("23.11", "23.12", "24.01", "24.02"),
    "1.17.2": ("24.03",),
    "1.17.3": ("24.04",),
    "1.18.0": ("24.05", "24.06"),
    "1.18.1": ("24.07", "24.08"),
    "1.19.2": ("24.09", "24.10", "24.11"),
    "1.20.1": ("24.12", "25.01", "25.02"),
    "1.21.0": ("25.03", "25.04"),
    "1.22.0": ("25.05", "25.06", "25.07"),
    "1.23.0": ("25.08", "25.09"),
    "1.23.1": ("25.10",),
    "1.23.2": ("25.11", "25.12", "26.01"),
    "1.24.1": ("26.02",),
    "1.24.2": ("26.03",),
    "1.24.4": ("26.04", "26.05", "26.06"),
    "1.27.0": ("26.07",),
    "1.28.0": ("26.08",),
}

RELEASES = {
    name: Release(name, version, "22.04" if name <= "24.10" else "24.04")
    for version, names in _ONNXRUNTIME.items()
    for name in names
}
"""Releases by name, oldest first; those before :data:`OLDEST` are listed so that checks can say why they fail."""


def release(name: str) -> Release:
    """Look a release up.

    Args:
        name: ``YY.MM``, as in the image's tag.

    Raises:
        ConfigError: The release is not in the table.
    """
    try:
        return RELEASES[name]
    except KeyError:
        known = list(RELEASES)
        raise ConfigError(
            f"Triton release {name!r} is not known; the table holds {known[0]} to {known[-1]}.",
            hint="Give the release as in the image's tag, such as 26.06. For a newer one check with the last known.",
            value=name,
        ) from None
