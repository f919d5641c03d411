"""The bank's faults behind the network: heads, map, finished picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from panokit_validation.faults import effect, heads
from panokit_validation.faults.model import Fault, Step, Variant

__all__ = ["OUTPUT_FAULTS"]


def _one(change: Any) -> tuple[Variant, ...]:
    return (Variant("", change),)


_HEADS = (
    Fault(
        "other-artifact",
        "another artifact than the bundle's",
        Step.ARTIFACT,
        "Ship the artifact whose SHA-256 the manifest lists, and validate with that bundle.",
        _one(None),
    ),
    Fault(
        "head-nchw",
        "heads read in planes (NCHW) instead of pixels (NHWC)",
        Step.HEADS,
        "Read and write the heads in the manifest's layout: index (y·w + x)·C + c.",
        (Variant("read", heads.nchw_as_nhwc), Variant("written", heads.nhwc_as_nchw)),
    ),
    Fault(
        "head-transposed",
        "rows and columns of the heads swapped",
        Step.HEADS,
        "Read the heads row by row: y before x.",
        _one(heads.transposed),
    ),
    Fault(
        "head-row-stride",
        "the padding at the end of the heads' rows is read as values",
        Step.HEADS,
        "Step from row to row of a head by the buffer's stride, not by its width.",
        (
            *(Variant(str(n), heads.padded_rows(n)) for n in (16, 8, 4, 32, 2, 1, 64)),
            Variant("64-bytes", heads.aligned_rows(64)),
            Variant("256-bytes", heads.aligned_rows(256)),
        ),
    ),
    Fault(
        "head-float-type",
        "floats of one type read as another (float16, bfloat16, float32)",
        Step.HEADS,
        "Read the heads in the type that the runtime names: 2 bytes for float16, 4 for float32.",
        (
            Variant("float16-as-float32", heads.reread("half", "single")),
            Variant("float32-as-float16", heads.reread("single", "half")),
            Variant("float16-as-bfloat16", heads.reread("half", "bfloat")),
            Variant("bfloat16-as-float16", heads.reread("bfloat", "half")),
        ),
        precision="float",
    ),
    Fault(
        "head-by-position",
        "outputs taken by position: centre and offset change places",
        Step.HEADS,
        "Find the outputs by the names in the manifest; their order is the converter's affair.",
        _one(heads.by_position),
    ),
    Fault(
        "head-dead",
        "one head is zero everywhere",
        Step.HEADS,
        "Read every output of the run; if the accelerator gives zeros, keep that part on the CPU.",
        tuple(Variant(n, heads.constant(n)) for n in ("semantic", "center", "offset")),
    ),
    Fault(
        "head-not-finite",
        "NaN or infinity in the heads",
        Step.HEADS,
        "Half precision overflowed: run those layers in float32 or on the CPU, or scale them down.",
        (Variant("nan", heads.not_finite(float("nan"))), Variant("inf", heads.not_finite(np.inf))),
        replayed=False,
    ),
    Fault(
        "head-zero-point",
        "heads dequantised without their zero point",
        Step.HEADS,
        "Dequantise as (q - zero_point)·scale with each head's own figures from the manifest.",
        _one(heads.zero_point_missing),
        precision="integer",
    ),
    Fault(
        "head-scale",
        "heads dequantised with the scale of another head",
        Step.HEADS,
        "Dequantise each head with its own scale from the manifest; outputs are found by name.",
        _one(heads.wrong_scale),
        precision="integer",
    ),
    Fault(
        "head-joined-scale",
        "all heads share one scale of 8 bits",
        Step.HEADS,
        "Leave the heads outputs of their own: in one tensor they are quantised by the widest.",
        _one(heads.joined_scale),
    ),
    Fault(
        "head-one-hot",
        "the semantic head went through the argmax in the graph",
        Step.HEADS,
        "Export the raw scores of the classes; the decoding takes the argmax, after upsampling.",
        _one(heads.one_hot),
    ),
    Fault(
        "head-signed",
        "signed heads read as unsigned bytes",
        Step.HEADS,
        "Read the heads as int8: bytes of 128 and more are negative.",
        _one(heads.signed_as_unsigned),
        precision="integer",
    ),
    Fault(
        "dequantisation-missing",
        "quantised heads used as they are",
        Step.HEADS,
        "Dequantise the heads, (q - zero_point)·scale, before the decoding.",
        _one(heads.raw_integers),
        precision="integer",
    ),
    Fault(
        "sigmoid-twice",
        "the sigmoid is applied twice",
        Step.HEADS,
        "The centre head holds logits: apply the sigmoid once, in the graph or in the decoding.",
        _one(heads.sigmoid_twice),
    ),
    Fault(
        "fp16-rounding",
        "half-precision rounding",
        Step.HEADS,
        "Nothing to mend: the heads carry half precision, which the decoding tolerates.",
        _one(heads.fp16_rounding),
    ),
    Fault(
        "fp16-overflow",
        "values saturate, as half precision does at its end",
        Step.HEADS,
        "Run the layers that overflow in float32, or on the CPU; keep sums below 65504.",
        (Variant("half", heads.fp16_overflow(0.5)), Variant("third", heads.fp16_overflow(0.35))),
    ),
)

_DECODE = (
    Fault(
        "sigmoid-missing",
        "the sigmoid is missing: logits are compared with the threshold",
        Step.DECODE,
        "Apply the sigmoid to the centre head before comparing it with the threshold.",
        _one({"sigmoid": 0}),
    ),
    Fault(
        "offset-swapped",
        "the offsets' axes are swapped",
        Step.DECODE,
        "Channel 0 of the offsets is dy, channel 1 is dx.",
        _one({"offset_axes": "xy"}),
    ),
    Fault(
        "offset-unscaled",
        "offsets in another unit than input pixels",
        Step.DECODE,
        "Offsets are in input pixels: neither multiply nor divide them by the stride.",
        (
            Variant("times-stride", {"offset_factor": 0}),
            Variant("per-stride", {"offset_factor": -1}),
        ),
    ),
    Fault(
        "threshold",
        "another centre threshold than the bundle's",
        Step.DECODE,
        "Take the threshold from the manifest's postprocessing parameters.",
        tuple(
            Variant(f"{t:g}", {"threshold": t})
            for t in (0.1, 0.5, 0.3, 0.2, 0.4, 0.05, 0.15, 0.25, 0.35, 0.6, 0.7, 0.8)
        ),
    ),
    Fault(
        "window",
        "another window of the non-maximum suppression than the bundle's",
        Step.DECODE,
        "Take the window from the manifest's postprocessing parameters.",
        tuple(Variant(str(k), {"window": k}) for k in (3, 7, 5, 9, 11, 13, 15, 17, 21, 25, 31)),
    ),
    Fault(
        "equal-centres",
        "of equal centres in one window all or the last are kept, not the first",
        Step.DECODE,
        "Keep the first of equal cells in raster order: a cell counts if no cell of its window is "
        "higher, and none that comes earlier is equal.",
        (Variant("all", {"equals": "all"}), Variant("last", {"equals": "last"})),
    ),
    Fault(
        "top-k",
        "another limit of centres than the bundle's",
        Step.DECODE,
        "Take top_k from the manifest's postprocessing parameters.",
        tuple(Variant(str(k), {"top_k": k}) for k in (3, 5, 1, 2, 10, 20, 50, 200)),
    ),
    Fault(
        "thing-score",
        "another least score of things than the bundle's, or none",
        Step.DECODE,
        "Make things void whose score is below min_thing_score of the manifest; 0 if it has none.",
        tuple(
            Variant(f"{t:g}", {"min_thing_score": t}) for t in (0.0, 0.5, 0.2, 0.4, 0.1, 0.3, 0.6)
        ),
    ),
    Fault(
        "least-areas",
        "other least areas than the bundle's, or none",
        Step.DECODE,
        "Take min_thing_area and min_stuff_area from the manifest; they count pixels of the grid.",
        (
            Variant("none", {"min_thing_area": 1, "min_stuff_area": 1}),
            Variant("stuff-as-things", {"min_stuff_area": 64}),
            Variant("things-as-stuff", {"min_thing_area": 2048}),
            *(
                Variant(f"both-{n}", {"min_thing_area": n, "min_stuff_area": n})
                for n in (100, 256, 512, 1000, 4000)
            ),
        ),
    ),
    Fault(
        "label-off-by-one",
        "class labels off by one",
        Step.DECODE,
        "Channel i is category i of the taxonomy; there is no background channel before it.",
        (Variant("minus-1", {"label_shift": -1}), Variant("plus-1", {"label_shift": 1})),
    ),
    Fault(
        "head-align-corners",
        "heads upsampled with corners aligned",
        Step.DECODE,
        "Upsample semantic and offset with half-pixel centres; switch align_corners off.",
        _one({"upsample": "corners"}),
    ),
    Fault(
        "head-nearest",
        "heads upsampled with nearest neighbour",
        Step.DECODE,
        "Upsample semantic and offset bilinearly with half-pixel centres.",
        _one({"upsample": "nearest"}),
    ),
    Fault(
        "padding-decoded",
        "the letterbox padding is decoded as if it were photo",
        Step.DECODE,
        "Make the padding void, and ignore centres in it.",
        _one({"mask_padding": False}),
    ),
    Fault(
        "class-table",
        "the finished map has the classes of a shifted or reversed table",
        Step.DECODE,
        "Look a segment's class up by its channel: channel i is category i of the taxonomy.",
        (
            Variant("plus-1", {"table": "plus-1"}),
            Variant("minus-1", {"table": "minus-1"}),
            Variant("reversed", {"table": "reversed"}),
        ),
    ),
    Fault(
        "head-grid",
        "decoded on the grid of the heads and enlarged",
        Step.DECODE,
        "Upsample the heads first, then decode each pixel of the grid that the manifest names.",
        _one({"grid": "head"}),
    ),
    Fault(
        "map-bilinear",
        "the map is resized bilinearly, which mixes ids at the edges",
        Step.DECODE,
        "Resize a map of ids with nearest neighbour only.",
        _one({"grid": "head", "enlarge": "bilinear"}),
    ),
    Fault(
        "map-turned",
        "the finished map is turned: upside down, mirrored or rotated",
        Step.DECODE,
        "Write the map from the top row down and from left to right, as the input lies.",
        (
            Variant("upside-down", {"turn": "rows"}),
            Variant("mirrored", {"turn": "columns"}),
            Variant("rotated-180", {"turn": "180"}),
            Variant("rotated-90", {"turn": "90"}),
            Variant("rotated-270", {"turn": "270"}),
        ),
    ),
    Fault(
        "map-row-stride",
        "the padding at the end of the map's rows is read as ids",
        Step.DECODE,
        "Step from row to row of the map's buffer by its row stride (bytesPerRow), not its width.",
        tuple(Variant(str(n), {"row_padding": n}) for n in (16, 32, 64, 128, 192)),
    ),
    Fault(
        "map-spread",
        "the map's letterbox is cut away and the rest enlarged to the whole input",
        Step.DECODE,
        "Dump the map on the input's grid, padding void; the transform leads back to the photo.",
        (Variant("stretched", {"spread": "stretch"}), Variant("filled", {"spread": "fill"})),
    ),
    Fault(
        "ids-truncated",
        "ids above 255 are cut down to one byte in the map",
        Step.DECODE,
        "Write the map as uint16 or int32; ids of category·1000 + n do not fit into a byte.",
        _one({"ids_in": "byte"}),
    ),
    Fault(
        "map-transposed",
        "rows and columns of the map swapped",
        Step.DECODE,
        "Write and read the map row by row: index y·W + x.",
        _one({"transpose": True}),
    ),
)

_EFFECT = (
    Fault(
        "effect-bgr",
        "red and blue of the finished picture swapped (BGR)",
        Step.EFFECT,
        "Swap the first and third channel of the picture before it is dumped or shown.",
        _one(effect.changed(lambda rgb_hwc: rgb_hwc[..., ::-1])),
    ),
    Fault(
        "effect-strength",
        "the effect has another strength than the dump says",
        Step.EFFECT,
        "Write the strength that was used into the metadata: effects, portrait_blur, strength.",
        tuple(Variant(f"{s:g}", effect.with_strength(s)) for s in (1.0, 0.25, 0.75, 0.1, 0.5)),
    ),
    Fault(
        "effect-row-stride",
        "the padding at the end of the finished picture's rows is read as pixels",
        Step.EFFECT,
        "Step from row to row of the picture by its row stride (bytesPerRow), not by its width.",
        tuple(Variant(str(n), effect.padded_rows(n)) for n in (16, 48, 4)),
    ),
    Fault(
        "effect-turned",
        "the finished picture is upside down or mirrored",
        Step.EFFECT,
        "Write the picture from the top row down and from left to right, as the photo lies.",
        (
            Variant("upside-down", effect.changed(lambda rgb_hwc: rgb_hwc[::-1])),
            Variant("mirrored", effect.changed(lambda rgb_hwc: rgb_hwc[:, ::-1])),
        ),
    ),
)

OUTPUT_FAULTS = (*_HEADS, *_DECODE, *_EFFECT)
