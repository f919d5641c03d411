"""An ARM64 phone without a phone: LiteRT's ARM64 kernels under qemu's user emulation.

The numbers are those of a phone's processor, bit for bit; the speed is not.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Bundle
from panokit.errors import ArgumentError, ExportError, UsageError
from panokit.preprocessing import PreprocessConfig
from panokit.runtime import quantize_image

__all__ = ["CPUS", "KERNELS", "EmulatedRuntime", "Kernels", "python_arm64"]

Kernels = Literal["xnnpack", "builtin", "fp16"]
KERNELS: tuple[Kernels, ...] = ("xnnpack", "builtin", "fp16")

CPUS = ("cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76", "cortex-a710", "neoverse-v1")
"""Processors by qemu's names. Those before the Cortex-A55 have no half-precision arithmetic."""

VARIABLE = "PANOKIT_ARM64"
SECONDS = 3600
RUNNER = Path(__file__).with_name("arm64_runner.py")


def python_arm64() -> Path:
    """The emulated Python; ``UsageError`` says how to get one where there is none."""
    folder = Path(os.environ.get(VARIABLE) or "out/toolchains/arm64")
    if (folder / "python-arm64").is_file():
        return (folder / "python-arm64").resolve()
    raise UsageError(
        f"There is no emulated ARM64 Python in {folder}. `python scripts/arm64_toolchain.py` of "
        f"a checkout makes one (Debian; about 200 MB); {VARIABLE} names its folder."
    )


@dataclass
class EmulatedRuntime:
    """A TFLite artifact on an ARM64 processor. Use it with ``with``.

    ``python`` starts a Python there; ``cpu`` is one of :data:`CPUS`. ``kernels``: XNNPACK, the
    runtime's built-in ones (an app whose delegate did not load), or XNNPACK with half-precision
    sums. A child that ends, or is not heard of for an hour, is an ``ExportError``.
    """

    bundle: Bundle
    artifact: str
    python: Sequence[str]
    cpu: str = "cortex-a76"
    kernels: Kernels = "xnnpack"
    name: str = "litert"

    def __post_init__(self) -> None:
        self._artifact = self.bundle.manifest.artifact(self.artifact)
        if self._artifact.format != "tflite":
            raise ArgumentError(
                "artifact",
                f"artifact {self.artifact!r} is {self._artifact.format}; expected tflite",
            )
        if self.kernels == "fp16" and not self._artifact.precision.startswith("float"):
            given = f"kernels are 'fp16', but artifact {self.artifact!r} is of integers"
            raise ArgumentError("kernels", f"{given}; expected a float artifact")

    def __enter__(self) -> EmulatedRuntime:
        self._folder = tempfile.TemporaryDirectory(prefix="panokit-")
        self._said = Path(self._folder.name, "said").open("w+")
        self._child = subprocess.Popen(  # noqa: S603 - the user's Python, and a script of ours
            [*self.python, str(RUNNER), str(self.bundle.path(self._artifact)), self.kernels],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            env={**os.environ, "QEMU_CPU": self.cpu},
        )  # fmt: skip
        try:
            self._expect("ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()
        self._said.close()
        self._folder.cleanup()

    def _expect(self, word: str) -> None:
        watch = threading.Timer(SECONDS, self._child.kill)
        watch.start()
        try:
            lines = iter(self._child.stdout or ())
            heard = any(line.strip() == word for line in lines)  # LiteRT may print, too
        finally:
            watch.cancel()
        if not heard:
            code = self._child.wait()
            self._said.seek(0)
            last = " ".join(self._said.read().split())[-300:]
            raise ExportError(
                f"LiteRT on an emulated {self.cpu}", f"ended with code {code}: {last}"
            )

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Raw heads by name; see :class:`panokit.runtime.Runtime`."""
        config: PreprocessConfig = self.bundle.manifest.preprocessing
        source, target = (Path(self._folder.name, n) for n in ("in.npy", "out.npz"))
        np.save(source, quantize_image(image_hwc, self._artifact.input, config))
        if self._child.stdin is not None:
            self._child.stdin.write(f"{source}\t{target}\n")
            self._child.stdin.flush()
        self._expect("done")
        with np.load(target) as found:
            outputs: Mapping[str, NDArray[Any]] = dict(found)
        return {head: outputs[s.name][0] for head, s in self._artifact.outputs.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """What its dumps say of the device."""
        delegate = "none" if self.kernels == "builtin" else "xnnpack"
        unit = {"compute_unit": "CPU, half precision"} if self.kernels == "fp16" else {}
        return {"device": f"ARM64 {self.cpu} (qemu)", "delegate": delegate, **unit}
