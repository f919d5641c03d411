"""Open a Core ML package, check it, and run its program operator by operator.

Arithmetic follows the program's own types. Every operator computes in float32 (sums of
convolutions too) and its result is rounded to the declared type, float16 or float32; a float16
program is thus rounded once after every operator. A device may keep more or fewer bits within one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from panokit.errors import ArgumentError, ExportError
from panokit_converters.coreml_interpreter.call import Call
from panokit_converters.coreml_interpreter.constexpr import CONSTEXPRS
from panokit_converters.coreml_interpreter.operators import OPERATORS
from panokit_converters.coreml_interpreter.package import Package, open_package
from panokit_converters.coreml_interpreter.values import (
    Array,
    Fault,
    NotRun,
    TensorType,
    Value,
    read_type,
    read_value,
    work_budget,
)
from panokit_converters.coreml_interpreter.wire import Message

__all__ = ["CoreMLProgram", "Feature", "NotRunHereError", "Operator"]

MAX_BYTES = 1 << 31  # of all tensors that live at one time
_COLORS = {10: "grayscale", 20: "rgb", 30: "bgr"}
_CHANNELS = {"grayscale": 1, "rgb": 3, "bgr": 3}

# What NumPy raises on tensors that do not fit together; which operator it was is our word.
_NUMPY_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, MemoryError)


class NotRunHereError(ExportError):
    """A program that may be sound holds what cannot be run here: it is not checked, not refused."""


@dataclass(frozen=True)
class Feature:
    """An input or output. ``color`` (rgb, bgr, grayscale) tells that it is an image to an app.

    ``type`` is that of the tensor the program sees: an image is ``[1,C,H,W]``, 0..255 before any
    scale and bias, which the program applies itself.
    """

    name: str
    type: TensorType
    color: str | None = None


@dataclass(frozen=True)
class Operator:
    """``location`` is the function and the place in it, ``main[17]``; ``outputs`` are names."""

    name: str
    type: str
    location: str
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"operator {self.name[:80]!r} ({self.type[:80]}) at {self.location}"


@dataclass(frozen=True)
class _Step:
    """An operator to run; an operand is the name of a tensor (``_Ref``) or a value."""

    operator: Operator
    operands: Mapping[str, tuple[_Ref | Value, ...]]
    results: tuple[TensorType, ...]


@dataclass(frozen=True)
class _Ref:
    name: str


class _Memory:
    """Tensors by name, whose bytes are counted."""

    def __init__(self, used: int = 0) -> None:
        self.values: dict[str, Value] = {}
        self.bytes = used

    def count(self, value: Value) -> None:
        self.bytes += 0 if isinstance(value, str) else value.nbytes
        if self.bytes > MAX_BYTES:
            raise Fault(f"all tensors together need more than {MAX_BYTES} bytes, the limit")

    def put(self, name: str, value: Value) -> None:
        self.count(value)
        self.values[name] = value

    def drop(self, name: str) -> None:
        value = self.values.pop(name, None)
        self.bytes -= 0 if value is None or isinstance(value, str) else value.nbytes


class CoreMLProgram:
    """An ML Program with its weights dense in memory. Make one by :meth:`open`."""

    def __init__(self, package: Package) -> None:
        self._path = package.path
        self._memory = _Memory()  # constants: read and decompressed once
        self._steps: list[_Step] = []
        self._operators: list[Operator] = []
        reader = _Reader(package)
        self._inputs, names = reader.features()
        types = {feature.name: feature.type for feature in self._inputs}
        for operator, message in reader.operators():
            self._operators.append(operator)
            with _placed(self._path, operator):
                self._add(reader.step(operator, message), types)
        for name in names:
            if name not in types:
                reader.refuse(f"the output {name!r} is computed by no operator")
        self._outputs = tuple(Feature(name, types[name]) for name in names)

    @classmethod
    def open(cls, path: str | Path) -> CoreMLProgram:
        """Read a ``.mlpackage`` folder.

        Everything is checked here, weights included, except what shows only when it runs.
        ``ExportError`` names the operator and its place.
        """
        with np.errstate(all="ignore"):
            return cls(open_package(path))

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """What :meth:`run` takes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Feature, ...]:
        """What :meth:`run` returns."""
        return self._outputs

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All operators in the order of the program, constants included."""
        return tuple(self._operators)

    def wiring(self) -> tuple[tuple[Operator, dict[str, tuple[str | Array, ...]]], ...]:
        """The operators that :meth:`run` computes, each with its operands by name: the name of a
        computed tensor or an input, or the array of a constant (texts as 0-d arrays)."""
        constants = self._memory.values

        def resolve(part: _Ref | Value) -> str | Array:
            if not isinstance(part, _Ref):
                return np.asarray(part)
            value = constants.get(part.name)
            return part.name if value is None else np.asarray(value)

        return tuple(
            (step.operator, {k: tuple(map(resolve, v)) for k, v in step.operands.items()})
            for step in self._steps
        )

    def run(
        self, inputs: Mapping[str, Array], keep: Literal["all"] | None = None
    ) -> dict[str, Array]:
        """The outputs by name, each in its declared type (float16 or float32 as a rule).

        An image input takes uint8 ``[H,W,3]`` RGB (``[H,W]`` if grayscale) or, as any other input,
        an array of the declared shape. With ``keep="all"`` the result holds every tensor that is
        computed on the way as well, but no constants.
        """
        if keep not in (None, "all"):
            raise ArgumentError("keep", f"keep is {keep!r}; expected None or 'all'")
        expected = sorted(feature.name for feature in self._inputs)
        if sorted(inputs) != expected:
            raise ArgumentError(
                "inputs", f"inputs are {sorted(inputs)!r}; expected arrays named {expected}"
            )
        memory = _Memory(self._memory.bytes)
        for feature in self._inputs:
            memory.put(feature.name, _input(feature, np.asarray(inputs[feature.name])))
        last = self._last_uses()
        with np.errstate(all="ignore"), work_budget():
            for index, step in enumerate(self._steps):
                self._run_step(step, memory)
                if keep is None:
                    for name in last.get(index, ()):
                        memory.drop(name)
        wanted = memory.values if keep == "all" else [o.name for o in self._outputs]
        given = {feature.name for feature in self._inputs} - {o.name for o in self._outputs}
        found = {**self._memory.values, **memory.values}
        return {name: np.asarray(found[name]) for name in wanted if name not in given}

    def _add(self, step: _Step, types: dict[str, TensorType]) -> None:
        """Check one operator against what came before it; a constant is computed at once."""
        kind = step.operator.type
        _check_references(step, types)
        if kind == "const" or kind in CONSTEXPRS:
            _evaluate(step, self._memory)
        elif kind in OPERATORS:
            for parts in step.operands.values():
                for part in parts:
                    if not isinstance(part, _Ref):
                        self._memory.count(part)
            self._steps.append(step)
        else:
            raise NotRun("an operator that is not known here; its result cannot be computed")

    def _run_step(self, step: _Step, memory: _Memory) -> None:
        with _placed(self._path, step.operator):
            operands = {
                name: tuple(self._resolve(part, memory) for part in parts)
                for name, parts in step.operands.items()
            }
            results = OPERATORS[step.operator.type](Call(operands, step.results))
            for name, value in zip(step.operator.outputs, _typed(results, step), strict=True):
                memory.put(name, value)

    def _resolve(self, part: _Ref | Value, memory: _Memory) -> Value:
        if not isinstance(part, _Ref):
            return part
        constant = self._memory.values.get(part.name)
        return memory.values[part.name] if constant is None else constant

    def _last_uses(self) -> dict[int, list[str]]:
        """For each step the computed tensors that no later one needs."""
        last: dict[str, int] = {}
        for index, step in enumerate(self._steps):
            for name in step.operator.outputs:
                last[name] = index
            for parts in step.operands.values():
                last.update((part.name, index) for part in parts if isinstance(part, _Ref))
        for output in self._outputs:
            last.pop(output.name, None)
        uses: dict[int, list[str]] = {}
        for name, index in last.items():
            uses.setdefault(index, []).append(name)
        return uses


class _Reader:
    """The parts of the parsed model that are needed, with the errors of what is not there."""

    def __init__(self, package: Package) -> None:
        self.package = package
        program: Message = package.model.get("mlProgram", {})
        if not program:
            self.refuse("no ML Program; other kinds of Core ML models cannot be run here")
        self.description: Message = package.model.get("description", {})
        self.function_name = self.description.get("defaultFunctionName", "") or "main"
        self.function: Message = program.get("functions", {}).get(self.function_name, {})
        if not self.function:
            self.refuse(f"no function {self.function_name!r}")
        opset = self.function.get("opset", "")
        self.block: Message = self.function.get("block_specializations", {}).get(opset, {})
        if not self.block:
            self.refuse(f"no block for the operator set {opset!r}")

    def refuse(self, reason: str) -> NoReturn:
        raise ExportError(self.package.path, reason)

    def features(self) -> tuple[tuple[Feature, ...], list[str]]:
        """The inputs with the types the function declares, and the names of the outputs."""
        source = self.description
        for function in self.description.get("functions", []):
            if function.get("name") == self.function_name:
                source = function
        described = {f.get("name", ""): f.get("type", {}) for f in source.get("input", [])}
        inputs: list[Feature] = []
        for declared in self.function.get("inputs", []):
            name = declared.get("name", "")
            if name not in described or any(name == feature.name for feature in inputs):
                self.refuse(f"the input {name!r} of the program is not described, or comes twice")
            try:
                inputs.append(_feature(name, read_type(declared.get("type", {})), described[name]))
            except Fault as fault:
                self.refuse(f"the input {name!r}: {fault}")
        if len(inputs) != len(described):
            self.refuse(f"{len(described)} inputs are described, but {len(inputs)} are declared")
        names = [f.get("name", "") for f in source.get("output", [])]
        if not names or set(names) != set(self.block.get("outputs", [])):
            self.refuse(f"described outputs {names}, but {self.block.get('outputs', [])} computed")
        return tuple(inputs), names

    def operators(self) -> list[tuple[Operator, Message]]:
        found = []
        for index, message in enumerate(self.block.get("operations", [])):
            outputs = tuple(output.get("name", "") for output in message.get("outputs", []))
            name = outputs[0] if outputs else ""
            place = f"{self.function_name}[{index}]"
            found.append((Operator(name, message.get("type", ""), place, outputs), message))
        return found

    def step(self, operator: Operator, message: Message) -> _Step:
        """Operands come as inputs, or (constants of iOS 16) as attributes."""
        if message.get("blocks"):
            raise NotRun("it holds blocks of its own, which are not run here")
        if not operator.outputs or "" in operator.outputs:
            raise Fault("it has no result, or one without a name")
        results = tuple(read_type(out.get("type", {})) for out in message.get("outputs", []))
        operands: dict[str, tuple[_Ref | Value, ...]] = {}
        for name, argument in message.get("inputs", {}).items():
            bindings = argument.get("arguments", [])
            operands[name] = tuple(self._operand(binding) for binding in bindings)
        for name, value in message.get("attributes", {}).items():
            if name != "name":
                operands[name] = (read_value(value, self.package.read_record)[1],)
        return _Step(operator, operands, results)

    def _operand(self, binding: Message) -> _Ref | Value:
        if "value" in binding:
            return read_value(binding["value"], self.package.read_record)[1]
        return _Ref(binding.get("name", ""))


@contextmanager
def _placed(path: Path, operator: Operator) -> Iterator[None]:
    """Faults and NumPy's errors of the block become an ``ExportError`` with the operator."""
    try:
        yield
    except NotRun as fault:
        raise NotRunHereError(path, f"{operator}: {fault}") from None
    except Fault as fault:
        raise ExportError(path, f"{operator}: {fault}") from None
    except _NUMPY_ERRORS as error:
        reason = f"its operands do not fit together ({type(error).__name__}: {error})"
        raise ExportError(path, f"{operator}: {reason}") from error


def _check_references(step: _Step, types: dict[str, TensorType]) -> None:
    """Operators stand in the order they run: what one takes was made by one before it."""
    for name, parts in step.operands.items():
        for part in parts:
            if isinstance(part, _Ref) and part.name not in types:
                raise Fault(f"its operand {name!r} is {part.name!r}, missing or made only later")
    for name, kind in zip(step.operator.outputs, step.results, strict=True):
        if name in types:
            raise Fault(f"its result {name!r} is already the name of another tensor")
        types[name] = kind


def _evaluate(step: _Step, memory: _Memory) -> None:
    """A constant, read or decompressed."""
    operands: dict[str, tuple[Value, ...]] = {}
    for name, parts in step.operands.items():
        for part in parts:
            if isinstance(part, _Ref) and part.name not in memory.values:
                raise Fault(f"its operand {part.name!r} is no constant")
        operands[name] = tuple(
            memory.values[part.name] if isinstance(part, _Ref) else part for part in parts
        )
    if step.operator.type == "const":
        values = operands.get("val", ())
        if len(values) != 1:
            raise Fault("a constant without a value")
        results: Any = values[0]
    else:
        results = CONSTEXPRS[step.operator.type](Call(operands, step.results))
    for name, value in zip(step.operator.outputs, _typed(results, step), strict=True):
        memory.put(name, value)


def _typed(results: Any, step: _Step) -> list[Value]:
    """The results in their declared types: here a float is rounded to float16, if it is to be."""
    values = results if isinstance(results, tuple) else (results,)
    if len(values) != len(step.results):
        raise Fault(f"it computes {len(values)} results, but declares {len(step.results)}")
    typed: list[Value] = []
    for value, declared in zip(values, step.results, strict=True):
        if isinstance(value, str):
            if declared.element != "string" or declared.shape:
                raise Fault(f"it is a text, but declares {declared}")
            typed.append(value)
            continue
        array = np.asarray(value)
        floats = array.dtype.kind == "f" and declared.element in ("fp16", "fp32", "fp64")
        if not declared.fits(array.shape) or not (floats or array.dtype == declared.dtype):
            found = f"{array.dtype}{list(array.shape)}"
            raise Fault(f"it computes {found}, but declares {declared}")
        typed.append(array.astype(declared.dtype, copy=False))
    return typed


def _feature(name: str, declared: TensorType, described: Message) -> Feature:
    if declared.element == "string":
        raise Fault("a text; only images and arrays can be given")
    image = described.get("imageType")
    if image is None:
        if "multiArrayType" not in described:
            raise Fault("neither an image nor an array")
        return Feature(name, declared)
    color = _COLORS.get(image.get("colorSpace", 0))
    if color is None:
        raise Fault(f"an image of the unknown colour space {image.get('colorSpace', 0)}")
    shape = (1, _CHANNELS[color], image.get("height", 0), image.get("width", 0))
    if not declared.fits(shape):
        raise Fault(f"an image {list(shape)}, but the program takes {declared}")
    return Feature(name, declared, color)


def _input(feature: Feature, array: Array) -> Array:
    """What was given as the tensor the program sees."""
    if feature.color is not None and array.dtype == np.uint8 and array.ndim in (2, 3):
        image = array[:, :, None] if array.ndim == 2 else array
        if feature.color == "bgr":
            image = image[:, :, ::-1]
        array = image.transpose(2, 0, 1)[None]  # [1,C,H,W]
    if array.dtype.kind not in "fiub" or not feature.type.fits(array.shape):
        wanted = f"numbers of the shape {feature.type}"
        if feature.color is not None:
            wanted += " or uint8 [H,W,3] ([H,W] if grayscale)"
        raise ArgumentError(
            "inputs",
            f"inputs[{feature.name!r}] is {array.dtype}{list(array.shape)}; expected {wanted}",
        )
    if math.prod(array.shape) == 0:
        raise ArgumentError(
            "inputs",
            f"inputs[{feature.name!r}] has the shape {list(array.shape)}; "
            "expected an array that is not empty",
        )
    return array.astype(feature.type.dtype)
