"""The emulated side of `arm64.py`: heads of a TFLite file for the input tensors that it is told.

    python arm64_runner.py MODEL xnnpack|builtin|fp16

Each line of standard input names an input (.npy) and where the heads go (.npz); each is answered by
a line. It needs NumPy and LiteRT, nothing of Panokit's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# XNNPACK's flags for int8, uint8 and forced half precision. They replace the defaults: without the
# first, int8 operators would leave XNNPACK and nobody would be told.
FORCE_FP16 = 0x1 | 0x2 | 0x4

Run = Callable[[Any], dict[str, Any]]


def plain(model: str, is_xnnpack: bool) -> Run:
    """The interpreter, with its default delegate or without any."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kinds = OpResolverType
    resolver = kinds.AUTO if is_xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_path=model, num_threads=1, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    (name,) = signature.get_input_details()
    return lambda image: dict(signature(**{name: image}))


def halved(model: str) -> Run:
    """XNNPACK with its sums in half precision, where the processor has it."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.options import CpuOptions, Options

    options = Options(cpu_options=CpuOptions(num_threads=1, xnnpack_flags=FORCE_FP16))
    compiled = CompiledModel.from_file(model, options=options)
    signature = compiled.get_signature_by_index(0)
    key = signature["key"]
    inputs = {n: compiled.create_input_buffer_by_name(key, n) for n in signature["inputs"]}
    outputs = {n: compiled.create_output_buffer_by_name(key, n) for n in signature["outputs"]}
    details = compiled.get_output_tensor_details(key)

    def run(image: Any) -> dict[str, Any]:
        (buffer,) = inputs.values()
        buffer.write(image)
        compiled.run_by_name(key, inputs, outputs)
        found = {}
        for name, output in outputs.items():
            shape, kind = details[name]["shape"], np.dtype(details[name]["dtype"])
            found[name] = output.read(int(np.prod(shape)), kind).reshape(shape)
        return found

    return run


def tell(word: str) -> None:
    """Answer with a line."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answer until nobody asks."""
    model, kernels = sys.argv[1:]
    run = halved(model) if kernels == "fp16" else plain(model, kernels == "xnnpack")
    tell("ready")
    for line in sys.stdin:
        source, target = line.rstrip("\n").split("\t")
        np.savez(target, **run(np.load(source)))
        tell("done")


if __name__ == "__main__":
    main()
