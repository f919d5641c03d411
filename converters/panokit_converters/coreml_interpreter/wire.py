"""Protobuf bytes → plain dicts, for the few messages an ML Program is made of.

The generated classes of coremltools would do this too, but ``coremltools.proto`` cannot be
imported without ``coremltools`` itself, which takes seconds and brings torch. The wire format is
small: this reader needs no library, and everything it refuses it refuses in one way.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from panokit._protobuf import FIXED32, FIXED64, LENGTH, VARINT, WireError, fields, packed

__all__ = ["Message", "WireError", "parse_model"]

Message = dict[str, Any]
"""Field name → value. A field that is not there is absent; a repeated one is a list, a map a dict.

A number may stand for an enum; an embedded message is a dict again.
"""

MAX_DEPTH = 64  # messages within messages; a real program needs about a dozen


class Field(NamedTuple):
    """``kind``: int, uint, bool, float, double, str, bytes, or the name of a message."""

    name: str
    kind: str
    shape: str = "one"  # one, many, map


def _many(name: str, kind: str) -> Field:
    return Field(name, kind, "many")


def _map(name: str, kind: str) -> Field:
    return Field(name, kind, "map")


# Field numbers as in Apple's published MIL.proto, Model.proto and FeatureTypes.proto. What an ML
# Program of tensors does not need (other model kinds, states, flexible shapes) is left out and
# skipped when it comes.
_SCHEMA: dict[str, dict[int, Field]] = {
    "Model": {
        1: Field("specificationVersion", "int"),
        2: Field("description", "Description"),
        502: Field("mlProgram", "Program"),
    },
    "Description": {
        1: _many("input", "Feature"),
        10: _many("output", "Feature"),
        20: _many("functions", "FunctionDescription"),
        21: Field("defaultFunctionName", "str"),
    },
    "FunctionDescription": {
        1: Field("name", "str"),
        2: _many("input", "Feature"),
        3: _many("output", "Feature"),
    },
    "Feature": {1: Field("name", "str"), 3: Field("type", "FeatureType")},
    "FeatureType": {
        4: Field("imageType", "ImageType"),
        5: Field("multiArrayType", "ArrayType"),
        8: Field("stateType", "Empty"),
    },
    "ImageType": {
        1: Field("width", "int"),
        2: Field("height", "int"),
        3: Field("colorSpace", "int"),
    },
    "ArrayType": {1: _many("shape", "int"), 2: Field("dataType", "int")},
    "Empty": {},
    "Program": {1: Field("version", "int"), 2: _map("functions", "Function")},
    "Function": {
        1: _many("inputs", "NamedType"),
        2: Field("opset", "str"),
        3: _map("block_specializations", "Block"),
    },
    "Block": {
        1: _many("inputs", "NamedType"),
        2: _many("outputs", "str"),
        3: _many("operations", "Operation"),
    },
    "Operation": {
        1: Field("type", "str"),
        2: _map("inputs", "Argument"),
        3: _many("outputs", "NamedType"),
        4: _many("blocks", "Empty"),
        5: _map("attributes", "Value"),
    },
    "Argument": {1: _many("arguments", "Binding")},
    "Binding": {1: Field("name", "str"), 2: Field("value", "Value")},
    "NamedType": {1: Field("name", "str"), 2: Field("type", "ValueType")},
    "ValueType": {1: Field("tensorType", "TensorType")},
    "TensorType": {
        1: Field("dataType", "int"),
        2: Field("rank", "int"),
        3: _many("dimensions", "Dimension"),
    },
    "Dimension": {1: Field("constant", "ConstantDimension"), 2: Field("unknown", "Unknown")},
    "ConstantDimension": {1: Field("size", "uint")},
    "Unknown": {1: Field("variadic", "bool")},
    "Value": {
        2: Field("type", "ValueType"),
        3: Field("immediateValue", "Immediate"),
        5: Field("blobFileValue", "BlobFile"),
    },
    "Immediate": {1: Field("tensor", "TensorValue")},
    "BlobFile": {1: Field("fileName", "str"), 2: Field("offset", "uint")},
    "TensorValue": {
        1: Field("floats", "Floats"),
        2: Field("ints", "Ints"),
        3: Field("bools", "Bools"),
        4: Field("strings", "Strings"),
        5: Field("longInts", "Ints"),
        6: Field("doubles", "Doubles"),
        7: Field("bytes", "Bytes"),
    },
    "Floats": {1: _many("values", "float")},
    "Doubles": {1: _many("values", "double")},
    "Ints": {1: _many("values", "int")},
    "Bools": {1: _many("values", "bool")},
    "Strings": {1: _many("values", "str")},
    "Bytes": {1: Field("values", "bytes")},
}

_FIXED = {"float": ("<f", FIXED32), "double": ("<d", FIXED64)}


def parse_model(data: bytes) -> Message:
    """The bytes of ``model.mlmodel`` as a ``Model`` message; ``WireError`` if they are none."""
    return _parse("Model", memoryview(data), 0)


def _parse(kind: str, data: memoryview, depth: int) -> Message:
    if depth > MAX_DEPTH:
        raise WireError(f"messages lie deeper than {MAX_DEPTH} within one another")
    known, message = _SCHEMA[kind], Message()
    for number, wire, raw in fields(data, kind):
        field = known.get(number)
        if field is None:
            continue
        where = f"{kind}.{field.name}"
        if field.shape == "map":
            key, value = _entry(field.kind, raw, wire, where, depth)
            message.setdefault(field.name, {})[key] = value
        elif field.shape == "many":
            message.setdefault(field.name, []).extend(_values(field.kind, raw, wire, where, depth))
        else:
            message[field.name] = _last(field.kind, raw, wire, where, depth)
    return message


def _entry(kind: str, raw: Any, wire: int, where: str, depth: int) -> tuple[str, Message]:
    """One entry of a map: a message with the key as field 1 and the value as field 2."""
    if wire != LENGTH:
        raise WireError(f"{where} is not an entry of a map")
    key, value = "", Message()
    for number, inner, part in fields(raw, where):
        if number == 1:
            key = _last("str", part, inner, where, depth)
        elif number == 2:
            value = _last(kind, part, inner, where, depth + 1)
    return key, value


def _last(kind: str, raw: Any, wire: int, where: str, depth: int) -> Any:
    """The value of a field that is not repeated."""
    values = _values(kind, raw, wire, where, depth)
    if not values:
        raise WireError(f"{where} is empty")
    return values[-1]


def _values(kind: str, raw: Any, wire: int, where: str, depth: int) -> list[Any]:
    """The value, or the values of a packed field; never empty for what is not packed."""
    if kind in ("int", "uint", "bool"):
        numbers = [raw] if wire == VARINT else _packed_varints(raw, wire, where)
        if kind == "bool":
            return [bool(n) for n in numbers]
        # Negative numbers come as their two's complement in 64 bits.
        return [n - (1 << 64) if kind == "int" and n >> 63 else n for n in numbers]
    if kind in _FIXED:
        code, single = _FIXED[kind]
        size = struct.calcsize(code)
        if wire not in (single, LENGTH) or len(raw) % size:
            raise WireError(f"{where} holds no {kind} numbers")
        return [n for (n,) in struct.iter_unpack(code, raw)]
    if wire != LENGTH:
        raise WireError(f"{where} has the wire type {wire} instead of {LENGTH}")
    if kind == "bytes":
        return [bytes(raw)]
    if kind == "str":
        try:
            return [str(raw, "utf-8")]
        except UnicodeDecodeError:
            raise WireError(f"{where} is not UTF-8 text") from None
    return [_parse(kind, raw, depth + 1)]


def _packed_varints(raw: Any, wire: int, where: str) -> list[int]:
    if wire != LENGTH:
        raise WireError(f"{where} has the wire type {wire} instead of {VARINT} or {LENGTH}")
    return packed(raw)
