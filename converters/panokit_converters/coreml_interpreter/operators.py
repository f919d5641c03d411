"""All MIL operators that are run here, one function each, in NumPy.

A function gets a :class:`Call` and returns the result (or a tuple of them). It computes in
float32; the interpreter rounds to the declared type afterwards. What makes a tensor larger
announces its size first.
"""

from __future__ import annotations

from panokit_converters.coreml_interpreter.call import Function
from panokit_converters.coreml_interpreter.convolution import CONVOLUTIONS
from panokit_converters.coreml_interpreter.elementwise import ELEMENTWISE
from panokit_converters.coreml_interpreter.indexing import INDEXING
from panokit_converters.coreml_interpreter.pooling import POOLS
from panokit_converters.coreml_interpreter.resize import RESIZES
from panokit_converters.coreml_interpreter.shapes import SHAPES
from panokit_converters.coreml_interpreter.statistics import STATISTICS

__all__ = ["OPERATORS"]

OPERATORS: dict[str, Function] = {
    **ELEMENTWISE, **STATISTICS, **INDEXING, **SHAPES, **CONVOLUTIONS, **POOLS, **RESIZES,
}  # fmt: skip
