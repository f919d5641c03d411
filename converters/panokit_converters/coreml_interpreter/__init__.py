"""A reference executor of Core ML packages (ML Programs): what one computes, on any system.

::

    wire         protobuf bytes → plain dicts, for the messages an ML Program is made of
    package      the .mlpackage folder: manifest, model file, records of the weight file
    values       MIL types and values as NumPy arrays; size limits
    call         an operator with its operands, as the functions below see it
    constexpr    compressed weights → dense ones
    convolution  conv and the padding it shares with pooling
    resize       bilinear and nearest neighbour
    operators    one function per MIL operator
    interpreter  the program: open, check, run

It is meant to be read and trusted, not to be fast. It needs NumPy only: neither torch nor
coremltools, whose import alone brings torch.
"""

from __future__ import annotations

from panokit_converters.coreml_interpreter.interpreter import CoreMLProgram, Feature, Operator
from panokit_converters.coreml_interpreter.values import TensorType

__all__ = ["CoreMLProgram", "Feature", "Operator", "TensorType"]
