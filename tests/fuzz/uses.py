"""The child's side of `children.py`: use each file named on standard input as Panokit does.

One line says which file comes, one how it ended: it ran, it was refused with a sentence, or what
else happened. A file that takes longer than its time ends the process with the lines it was in.
"""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import shutil
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from panokit._text import has_controls
from panokit.errors import PanokitError
from panokit.photo import Photo

if TYPE_CHECKING:
    from panokit.segmenter import Segmenter

__all__ = ["COMES", "PEAK", "RAN", "REFUSED", "UNFORESEEN"]

COMES, RAN, REFUSED, UNFORESEEN, PEAK = "file", "ran", "refused", "unforeseen", "peak"
LONGEST_SENTENCE = 3000

_photo = Photo.from_array(
    np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8), "fuzz"
)


def tflite(path: Path) -> None:
    """LiteRT runs what the check lets through, on the numbers that hurt indices most."""
    from ai_edge_litert.interpreter import Interpreter

    from panokit.tflite.check import check_tflite

    check_tflite(path)
    for values in (0, 1, -1, 127):
        try:
            runner = Interpreter(model_path=str(path), num_threads=1)
            runner.allocate_tensors()
            for detail in runner.get_input_details():
                full = np.full(detail["shape"], values).astype(detail["dtype"])
                runner.set_tensor(detail["index"], full)
            runner.invoke()
        except (ValueError, RuntimeError):
            return  # what panokit.runtime makes a sentence of


def _held_bytes() -> int:
    """The address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _peak_kilobytes() -> int:
    """The most memory this process held. (``ru_maxrss`` would count what started it, too.)"""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def onnx(path: Path) -> None:
    """onnxruntime runs what the check lets through, in this process."""
    import onnxruntime

    from panokit._trial import ROOM_BYTES
    from panokit.onnx_check import check_onnx

    check_onnx(path)
    bound = _held_bytes() + ROOM_BYTES + 4 * path.stat().st_size  # as in the trial
    resource.setrlimit(resource.RLIMIT_AS, (bound, resource.RLIM_INFINITY))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        given = {
            node.name: np.full(
                [n if isinstance(n, int) else 1 for n in node.shape], 100, kinds[node.type]
            )
            for node in session.get_inputs()
        }
        session.run(None, given)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        return  # what panokit._trial makes a sentence of


def coreml(path: Path) -> None:
    """The interpreter opens and runs a package."""
    from panokit_converters.coreml_interpreter import CoreMLProgram

    program = CoreMLProgram.open(path)
    program.run(
        {f.name: np.ones([size or 1 for size in f.type.shape], "f4") for f in program.inputs}
    )


def manifest(path: Path) -> None:
    """A small photo is segmented by the bundle beside the file, whose manifest it becomes."""
    from panokit.bundle import MANIFEST, Bundle
    from panokit.segmenter import Segmenter

    (root,) = path.parent.glob("*.panokit")
    shutil.copyfile(path, root / MANIFEST)
    opened = Bundle.open(root)
    Segmenter.open(opened, threads=1).segment(_photo)
    opened.manifest.to_json()


def bundle(path: Path) -> None:
    """A small photo is segmented by a bundle."""
    from panokit.segmenter import Segmenter

    Segmenter.open(path, threads=1).segment(_photo)


@lru_cache(maxsize=1)
def _segmenter(root: Path) -> Segmenter:
    from panokit.segmenter import Segmenter

    return Segmenter.open(root, threads=1)


def dump(path: Path) -> None:
    """A dump is read, judged by the bundle that lies beside it, and its cause looked for."""
    from panokit.dump import read_dump
    from panokit_validation import validate_dump

    read = read_dump(path)
    (root,) = path.parent.glob("*.panokit")
    validate_dump(read, _segmenter(root), diagnose=True)


def photo(path: Path) -> None:
    """A photo is read upright, in sRGB."""
    Photo.open(path)


USES: dict[str, Callable[[Path], None]] = {
    use.__name__: use for use in (tflite, onnx, coreml, manifest, bundle, dump, photo)
}


def _ending(use: Callable[[Path], None], path: Path) -> tuple[str, str]:
    try:
        use(path)
    except PanokitError as error:
        told = str(error)
        if has_controls(told) or not 10 <= len(told) <= LONGEST_SENTENCE:
            return UNFORESEEN, f"no sentence: {told[:300]!r}"
        return REFUSED, told[:200]
    except Exception:
        return UNFORESEEN, " / ".join(traceback.format_exc().split("\n")[-5:])
    return RAN, ""


def main(kind: str, seconds: float, limit_bytes: int) -> None:
    """Use the files that standard input names."""
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, resource.RLIM_INFINITY))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is nobody's
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        print(COMES, path, flush=True, file=out)
        faulthandler.dump_traceback_later(seconds, exit=True)
        word, told = _ending(USES[kind], path)
        faulthandler.cancel_dump_traceback_later()
        print(word, told.replace("\n", " "), flush=True, file=out)
    print(PEAK, _peak_kilobytes(), flush=True, file=out)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
