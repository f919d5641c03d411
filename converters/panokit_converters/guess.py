"""Which family of networks answers with such tensors: by their names, else by their shapes.

The same rules serve a file that is adopted and a module that is exported. The facts are in
``docs/contracts.md``; which rule fired is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from panokit.decoding import DecodingSettings
from panokit.errors import ArgumentError, UsageError
from panokit.families import FAMILIES
from panokit_converters.model_file import FileTensor

__all__ = ["Guess", "NoFamilyError", "guess_family", "input_wh", "picture_layout", "settle"]

STRIDES = (8, 16, 32)

# Under which names the heads of a contract come elsewhere.
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "center-offset": {"semantic": ("semantic",), "center": ("center",), "offset": ("offset",)},
    "mask-queries": {
        "classes": ("classes", "class_queries_logits", "pred_logits", "logits"),
        "masks": ("masks", "masks_queries_logits", "pred_masks", "mask_proposal_logits"),
    },
    "instances": {
        "boxes": ("boxes", "dets", "pred_boxes"),
        "scores": ("scores", "labels", "pred_logits"),
        "masks": ("masks", "pred_masks"),
    },
    "semantic": {"semantic": ("semantic", "out", "logits")},
}
_BOXES = _NAMES["instances"]["boxes"]
_DETR_COLUMNS = 251  # COCO's category ids, and "no object"
_FAMILY_OF = {"mask-queries": "mask2former", "instances": "rf-detr-seg"}


class NoFamilyError(ArgumentError):
    """The outputs are those of no network known here."""


@dataclass(frozen=True)
class Guess:
    """A family, which tensor is which head and how it lies (``"nchw"``, ``"nhwc"``, ``"rows"`` or
    ``"columns"``), and why."""

    family: str
    heads: dict[str, tuple[str, str]]
    why: str


def settle(
    outputs: Sequence[FileTensor],
    size_wh: tuple[int, int],
    family: str | None = None,
    given: Mapping[str, str] | None = None,
    decoding: DecodingSettings | None = None,
) -> Guess:
    """The guess, with what the user says put in its place: the ``family``, and tensor names by
    head in ``given``. ``NoFamilyError`` if it takes a guess and there is none, ``UsageError`` for
    heads that are not there."""
    given = given or {}
    if family is None and not given:
        guess = guess_family(outputs, size_wh)
    else:
        guess = _told(outputs, size_wh, family, given)
    settings = decoding or FAMILIES[guess.family].decoding
    missing = [h for h in settings.head_names() if h not in guess.heads]
    if missing:
        names = ", ".join(f"{t.name} {t.shape}" for t in outputs)
        raise UsageError(f"--map lacks {', '.join(missing)}; there are {names}.")
    return guess


def _told(
    outputs: Sequence[FileTensor],
    size_wh: tuple[int, int],
    family: str | None,
    given: Mapping[str, str],
) -> Guess:
    """The family that the user names; its tensors as told, or by a guess that fits it."""
    by_name = {t.name: t for t in outputs}
    unknown = [n for n in given.values() if n not in by_name]
    if unknown:
        raise ArgumentError.unknown("tensor", unknown[0], by_name)
    guess: Guess | None = None
    try:
        if family:
            contract = FAMILIES[family].decoding.contract
            guess = _by_names(outputs, size_wh, contract)
        guess = guess or guess_family(outputs, size_wh)
    except NoFamilyError:
        if not given:
            raise
    family = family or (guess.family if guess else "")
    if not family:
        raise UsageError("--map needs --contract: it cannot be seen which network this is.")
    settings = FAMILIES[family].decoding
    heads = dict(guess.heads) if guess and set(settings.head_names()) <= set(guess.heads) else {}
    for head, name in given.items():
        tensor = by_name[name]
        heads[head] = (name, _layout(tensor, size_wh))
    return Guess(family, heads, "as told")


def guess_family(outputs: Sequence[FileTensor], size_wh: tuple[int, int]) -> Guess:
    """The family by the names of the outputs, else by their shapes; ``NoFamilyError`` with what was
    found if none fits."""
    found = (
        _maskconver(outputs)
        or _by_names(outputs, size_wh)
        or _by_shapes([t for t in outputs if len(t.shape) > 2], size_wh)
    )
    if found is not None:
        return found
    shapes = ", ".join(f"{t.name} {t.shape}" for t in outputs)
    known = ", ".join(FAMILIES)
    raise NoFamilyError(
        "contract",
        f"has the outputs {shapes}, which are those of no network known here; "
        f"say which it is with --contract ({known}) and --map HEAD=TENSOR",
    )


def _by_names(
    outputs: Sequence[FileTensor], size_wh: tuple[int, int], contract: str = ""
) -> Guess | None:
    """The contract all of whose heads are there under names that are known; ``contract``: this one
    alone."""
    by_name = {t.name: t for t in outputs}
    for kind, heads in _NAMES.items():
        if contract and kind != contract:
            continue
        named = {
            head: next((n for n in names if n in by_name), "") for head, names in heads.items()
        }
        used = list(named.values())
        if not all(used) or len(set(used)) < len(used):
            continue
        if not contract and not _is_plain(kind, [by_name[n] for n in used], by_name):
            continue
        layouts = {h: _layout(by_name[n], size_wh) for h, n in named.items()}
        if kind == "mask-queries":
            queries = by_name[named["classes"]].shape[1:2]
            if by_name[named["masks"]].shape[1:2] == queries:
                layouts["masks"] = "nchw"
        family = _FAMILY_OF.get(kind, kind)
        if kind == "mask-queries" and "logits" in used:
            family = "transformers-detr"
        why = f"outputs are named {', '.join(used)}"
        return Guess(family, {h: (n, layouts[h]) for h, n in named.items()}, why)
    return None


def _maskconver(outputs: Sequence[FileTensor]) -> Guess | None:
    """A class and a confidence for each query, and as many masks."""
    vectors = [t for t in outputs if len(t.shape) == 2]
    labels, others = ([t for t in vectors if t.is_label is kind] for kind in (True, False))
    if len(labels) != 1 or len(others) != 1 or labels[0].shape != others[0].shape:
        return None
    count = labels[0].shape[1]
    masks = [t for t in outputs if len(t.shape) == 4 and count in (t.shape[1], t.shape[3])]
    if len(masks) != 1:
        return None
    layout = "nchw" if masks[0].shape[1] == count else "nhwc"
    heads = {"classes": (labels[0].name, "vector"), "confidence": (others[0].name, "vector"),
             "masks": (masks[0].name, layout)}  # fmt: skip
    return Guess("maskconver", heads, f"{count} classes with confidences and masks")


def _is_plain(kind: str, used: Sequence[FileTensor], by_name: Mapping[str, FileTensor]) -> bool:
    """Whether names alone tell: other contracts have heads of the same names."""
    if kind == "mask-queries" and any(n in by_name for n in _BOXES):
        return used[0].shape[-1] == _DETR_COLUMNS
    return kind != "semantic" or len(used[0].shape) == 4


def _layout(tensor: FileTensor, size_wh: tuple[int, int]) -> str:
    if len(tensor.shape) == 4:
        return picture_layout(tensor.shape, size_wh)
    return "rows" if len(tensor.shape) == 3 else "vector"


def _by_shapes(outputs: Sequence[FileTensor], size_wh: tuple[int, int]) -> Guess | None:
    width, height = size_wh
    anchors = sum((width // s) * (height // s) for s in STRIDES)
    pictures = [t for t in outputs if len(t.shape) == 4]
    rows = [t for t in outputs if len(t.shape) == 3]
    whole = [t for t in rows if t.is_label]
    if len(outputs) == 1 and pictures:
        (one,) = pictures
        if 1 in one.shape[1:]:
            heads = {"semantic": (one.name, picture_layout(one.shape, size_wh, 1))}
            return Guess("foreground", heads, "one output of one channel: an object or not")
        heads = {"semantic": (one.name, picture_layout(one.shape, size_wh))}
        return Guess("semantic", heads, f"one output of {_channels(one.shape, size_wh)} channels")
    if len(outputs) == 1 and whole:
        heads = {"semantic": (whole[0].name, "rows")}
        why = "one output of whole numbers, a class for each pixel"
        return Guess("semantic-labels", heads, why)
    if len(pictures) == 3 and not rows:
        counts = {_channels(t.shape, size_wh): t for t in pictures}
        if {1, 2} < counts.keys() and len(counts) == 3:
            names = {1: "center", 2: "offset"}
            heads = {
                names.get(n, "semantic"): (t.name, picture_layout(t.shape, size_wh, n))
                for n, t in counts.items()
            }
            return Guess("center-offset", heads, "three outputs, of 1, 2 and more channels")
    if rows and len(pictures) == 1:
        found = _queries(rows, pictures[0], size_wh)
        if found is None and len(rows) == 1:
            found = _yolo(rows[0], pictures[0], anchors, size_wh)
        return found
    return None


def _yolo(
    rows: FileTensor, prototypes: FileTensor, anchors: int, size_wh: tuple[int, int]
) -> Guess | None:
    a, b = rows.shape[1:]
    mixed = min(prototypes.shape[1], prototypes.shape[3])
    layout = picture_layout(prototypes.shape, size_wh, mixed)
    for count, numbers, way in ((b, a, "columns"), (a, b, "rows")):
        heads = {"detections": (rows.name, way), "prototypes": (prototypes.name, layout)}
        if count == anchors and numbers > 4 + mixed:
            why = f"{count} anchors of {numbers} numbers, and {mixed} prototypes"
            return Guess("yolo-seg", heads, why)
        if count == 3 * anchors and numbers > 5 + mixed:
            why = f"3 x {anchors} anchors of {numbers} numbers, and {mixed} prototypes"
            return Guess("yolo-seg-v5", heads, why)
    if b == 6 + mixed and a <= 1000:
        heads = {"detections": (rows.name, "rows"), "prototypes": (prototypes.name, layout)}
        why = f"{a} finished detections of {b} numbers, and {mixed} prototypes"
        return Guess("yolo-seg-end2end", heads, why)
    return None


def _queries(
    rows: Sequence[FileTensor], masks: FileTensor, size_wh: tuple[int, int]
) -> Guess | None:
    # Of a single tensor four columns are classes.
    boxes = [t for t in rows if t.shape[-1] == 4 and len(rows) > 1]
    others = [t for t in rows if t not in boxes]
    if len(others) != 1:
        return None
    queries, columns = others[0].shape[1:]
    if queries not in (masks.shape[1], masks.shape[3]):
        return None
    layout = picture_layout(masks.shape, size_wh, queries)
    if boxes:
        heads = {"boxes": (boxes[0].name, "rows"), "scores": (others[0].name, "rows"),
                 "masks": (masks.name, layout)}  # fmt: skip
        why = f"{queries} queries with boxes, {columns} classes and masks"
        return Guess("rf-detr-seg", heads, why)
    heads = {"classes": (others[0].name, "rows"), "masks": (masks.name, layout)}
    side = masks.shape[2]
    odd = side == (size_wh[0] - 1) // 4 + 1 and size_wh[0] % 2 == 1
    family = "kmax" if odd or queries == 128 else "mask2former"
    why = f"{queries} queries of {columns} classes with masks; say which with --contract"
    return Guess(family, heads, why)


def input_wh(tensor: FileTensor) -> tuple[tuple[int, int], str]:
    """Width and height of an input picture, and its layout."""
    a, b, c = tensor.shape[1:]
    return ((b, a), "nhwc") if c == 3 else ((c, b), "nchw")


def picture_layout(
    shape: Sequence[int], size_wh: tuple[int, int], channels: int | None = None
) -> str:
    """Whether a tensor of rows, columns and channels has the channels first or last: by their
    number if that is known, else by the axes that have the input's proportions."""
    first, middle, last = shape[1:]
    if channels is not None and (first == channels) != (last == channels):
        return "nchw" if first == channels else "nhwc"
    width, height = size_wh
    fits_first, fits_last = (
        abs(rows * width - cols * height) <= max(width, height)
        for rows, cols in ((middle, last), (first, middle))
    )
    if fits_first != fits_last:
        return "nchw" if fits_first else "nhwc"
    return "nchw" if middle == last and first != middle else "nhwc"


def _channels(shape: Sequence[int], size_wh: tuple[int, int]) -> int:
    return shape[1] if picture_layout(shape, size_wh) == "nchw" else shape[3]
