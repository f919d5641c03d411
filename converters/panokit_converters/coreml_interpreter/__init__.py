"""A reference executor of Core ML packages (ML Programs): what one computes, on any system.

::

    wire         protobuf bytes → plain dicts, for the messages an ML Program is made of
    package      the .mlpackage folder: manifest, model file, records of the weight file
    values       MIL types and values as NumPy arrays; size limits
    call         an operator with its operands, as the functions below see it
    constexpr    compressed weights → dense ones
    elementwise  arithmetic, activations, comparisons, types
    statistics   norms, reductions, products of matrices, attention
    indexing     find, order, take and put by position
    shapes       move elements without changing them
    convolution  conv, conv_transpose, and the padding shared with pooling
    pooling      max, average and l2 pools
    resize       bilinear, nearest neighbour, sampling at computed places
    operators    all of these by the name of the MIL operator
    interpreter  the program: open, check, run

It is meant to be read and trusted, not to be fast. It needs NumPy only: neither torch nor
coremltools, whose import alone brings torch.
"""

from __future__ import annotations

from panokit_converters.coreml_interpreter.interpreter import (
    CoreMLProgram,
    Feature,
    NotRunHereError,
    Operator,
)
from panokit_converters.coreml_interpreter.values import TensorType

__all__ = ["CoreMLProgram", "Feature", "NotRunHereError", "Operator", "TensorType"]
