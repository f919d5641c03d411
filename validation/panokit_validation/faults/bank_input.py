"""The bank's faults between the photo and the network."""

from __future__ import annotations

from typing import Any

import numpy as np

from panokit_validation.faults import color, tensor
from panokit_validation.faults.model import Fault, Step, Variant
from panokit_validation.faults.orientation import (
    crop_to,
    ignore_exif,
    mirror,
    padded_rows,
    rotate,
    upside_down,
)

__all__ = ["INPUT_FAULTS"]


def _one(change: Any) -> tuple[Variant, ...]:
    return (Variant("", change),)


def _fields(**variants: dict[str, Any]) -> tuple[Variant, ...]:
    return tuple(Variant(k.replace("_", "-"), v) for k, v in variants.items())


_KERNEL = "Resize with Pillow's BILINEAR (an antialiased triangle), as docs/port.md says; "

_SOURCE = (
    Fault(
        "stale-photo",
        "the result of another photo",
        Step.PHOTO,
        "Tie every result to the frame it was computed from; wait for the inference to finish "
        "before the buffers are read.",
        (Variant("frame"), Variant("buffers")),
    ),
    Fault(
        "exif-ignored",
        "EXIF orientation ignored",
        Step.ORIENTATION,
        "Apply the photo's EXIF orientation before the resize.",
        _one(ignore_exif),
    ),
    Fault(
        "mirrored",
        "left and right swapped",
        Step.ORIENTATION,
        "Do not mirror the front camera's picture before the network.",
        _one(mirror),
    ),
    Fault(
        "rotated",
        "rotated by a quarter or half turn",
        Step.ORIENTATION,
        "Rotate the camera buffer by the sensor's orientation exactly once.",
        (Variant("90", rotate(1)), Variant("180", rotate(2)), Variant("270", rotate(3))),
    ),
    Fault(
        "upside-down",
        "rows from bottom to top",
        Step.ORIENTATION,
        "The bitmap's origin is at the bottom left; flip its rows.",
        _one(upside_down),
    ),
    Fault(
        "photo-row-stride",
        "the padding at the end of the bitmap's rows is read as pixels, before the resize",
        Step.ORIENTATION,
        "Step from row to row of the bitmap by its row stride (bytesPerRow), not by its width.",
        (
            Variant("rgba-64", padded_rows(64, 4)),
            Variant("rgba-128", padded_rows(128, 4)),
            Variant("rgba-256", padded_rows(256, 4)),
            Variant("rgb-4", padded_rows(4, 3)),
            Variant("rgb-16", padded_rows(16, 3)),
            Variant("rgb-64", padded_rows(64, 3)),
        ),
    ),
    Fault(
        "photo-cropped",
        "the middle of the photo reaches the network, of another aspect",
        Step.ORIENTATION,
        "Take the same part of the camera's picture for the network and for the screen: the "
        "buffer's crop rectangle.",
        (Variant("4-3", crop_to(4, 3)), Variant("16-9", crop_to(16, 9))),
    ),
    Fault(
        "bgr",
        "red and blue swapped (BGR)",
        Step.COLOR,
        "Feed RGB: swap the first and third channel of the bitmap.",
        _one(color.bgr),
    ),
    Fault(
        "yuv-range",
        "YUV limited and full range mixed up",
        Step.COLOR,
        "Use the range that the camera buffer declares (video range 16..235 or full range) when "
        "YUV becomes RGB.",
        (
            Variant("limited-as-full", color.squeeze_range),
            Variant("full-as-limited", color.expand_range),
        ),
    ),
    Fault(
        "yuv-matrix",
        "YUV matrices BT.601, BT.709 and BT.2020 mixed up",
        Step.COLOR,
        "Use the matrix that the camera buffer declares when YUV becomes RGB.",
        (
            Variant("601-read-as-709", color.swap_yuv_matrix("601", "709")),
            Variant("709-read-as-601", color.swap_yuv_matrix("709", "601")),
            Variant("601-read-as-2020", color.swap_yuv_matrix("601", "2020")),
            Variant("709-read-as-2020", color.swap_yuv_matrix("709", "2020")),
            Variant("2020-read-as-709", color.swap_yuv_matrix("2020", "709")),
        ),
    ),
    Fault(
        "uv-swapped",
        "the chroma planes U and V are swapped (NV12 read as NV21)",
        Step.COLOR,
        "Read the chroma planes in the order that the camera buffer's format names.",
        _one(color.uv_swapped),
    ),
    Fault(
        "chroma-shifted",
        "chroma lies one sample off its luma",
        Step.ORIENTATION,
        "Use the chroma planes' own row and pixel strides, and start at their first sample.",
        (
            Variant("right", color.chroma_shifted(0, 2)),
            Variant("down", color.chroma_shifted(2, 0)),
            Variant("left", color.chroma_shifted(0, -2)),
            Variant("up", color.chroma_shifted(-2, 0)),
        ),
    ),
    Fault(
        "hdr-as-sdr",
        "a 10-bit HDR frame read as 8-bit sRGB",
        Step.COLOR,
        "Convert HDR frames (PQ, HLG; BT.2020) to sRGB before the network, or ask for SDR frames.",
        (Variant("pq", color.hdr_as_sdr("pq")), Variant("hlg", color.hdr_as_sdr("hlg"))),
    ),
    Fault(
        "p3-as-srgb",
        "Display P3 and sRGB mixed up",
        Step.COLOR,
        "Convert the photo from its embedded profile to sRGB, once.",
        (
            Variant("p3-read-as-srgb", color.p3_numbers),
            Variant("srgb-read-as-p3", color.srgb_as_p3),
        ),
    ),
    Fault(
        "gamma",
        "a transfer curve too many or too few",
        Step.COLOR,
        "Feed sRGB-encoded values; do not let the texture format convert to or from linear light.",
        (Variant("linear", color.gamma(2.2)), Variant("twice", color.gamma(1 / 2.2))),
    ),
    Fault(
        "jpeg-first",
        "the photo went through JPEG before the network",
        Step.ORIENTATION,
        "Feed the decoded photo or camera buffer itself, not a copy that was saved as JPEG.",
        tuple(
            Variant(f"quality-{q}", color.jpeg(q))
            for q in (75, 90, 80, 85, 95, 70, 60, 50, 92, 40, 30, 100)
        ),
        enough=0.5,
    ),
)

_LAYOUT = (
    Fault(
        "resize-nearest",
        "resized with nearest neighbour",
        Step.LAYOUT,
        _KERNEL + "nearest neighbour was used.",
        _fields(centre={"kernel": "nearest"}, corner={"kernel": "nearest-corner"}),
    ),
    Fault(
        "resize-no-antialias",
        "resized bilinearly without antialias",
        Step.LAYOUT,
        _KERNEL + "plain bilinear sampling aliases when it shrinks.",
        _one({"kernel": "bilinear-plain"}),
    ),
    Fault(
        "resize-bicubic",
        "resized with a bicubic kernel",
        Step.LAYOUT,
        _KERNEL + "a bicubic kernel was used.",
        _fields(antialias={"kernel": "bicubic"}, plain={"kernel": "bicubic-plain"}),
    ),
    Fault(
        "resize-lanczos",
        "resized with a Lanczos kernel",
        Step.LAYOUT,
        _KERNEL + "a Lanczos kernel was used.",
        _fields(antialias={"kernel": "lanczos"}, plain={"kernel": "lanczos-plain"}),
    ),
    Fault(
        "resize-area",
        "resized by area averaging",
        Step.LAYOUT,
        _KERNEL + "area averaging was used.",
        _fields(exact={"kernel": "area"}, box={"kernel": "box"}),
    ),
    Fault(
        "resize-align-corners",
        "resized with corners aligned instead of half-pixel centres",
        Step.LAYOUT,
        "Sample at (i + 0.5)·scale - 0.5, not at i·scale, and switch align_corners off.",
        _fields(
            aligned={"kernel": "bilinear-corners"}, asymmetric={"kernel": "bilinear-asymmetric"}
        ),
    ),
    Fault(
        "stretched",
        "stretched instead of letterboxed",
        Step.LAYOUT,
        "Keep the aspect ratio: Vision's scaleFit, or the letterbox of docs/port.md.",
        _one({"fit": "stretch"}),
    ),
    Fault(
        "cropped",
        "cropped instead of letterboxed",
        Step.LAYOUT,
        "Fit the whole photo: Vision's scaleFit instead of centerCrop or scaleFill.",
        _one({"fit": "crop"}),
    ),
    Fault(
        "resize-linear-light",
        "resized in linear light instead of in sRGB codes",
        Step.LAYOUT,
        _KERNEL + "it averages sRGB codes: switch the texture's sRGB conversion off.",
        _one({"light": "linear"}),
    ),
    Fault(
        "letterbox-rounding",
        "the photo's size in the letterbox is rounded down (cut off) or up, not to nearest",
        Step.LAYOUT,
        "Round each side to the nearest whole number, halves up, in whole numbers: of "
        "side·scale = a / b it is (2·a + b) div 2·b.",
        _fields(down={"rounding": "down"}, up={"rounding": "up"}),
    ),
    Fault(
        "input-other-size",
        "the buffer is laid out for an input of another size",
        Step.LAYOUT,
        "Take the input's width and height from the manifest, not from another network.",
        tuple(
            Variant(str(side), {"buffer_side": side})
            for side in (224, 256, 192, 300, 320, 384, 416, 512, 513, 640)
        ),
    ),
    Fault(
        "padding-color",
        "letterbox padding of another colour",
        Step.LAYOUT,
        "Fill the padding with black (0, 0, 0).",
        tuple(
            Variant(n, {"padding": v})
            for n, v in {
                "grey-114": (114, 114, 114),
                "grey-128": (128, 128, 128),
                "white": (255, 255, 255),
                "imagenet-mean": (124, 116, 104),
            }.items()
        ),
    ),
    Fault(
        "padding-top-left",
        "letterbox at the top left instead of centred",
        Step.LAYOUT,
        "Centre the photo in the input; the odd pixel of padding goes to the right and bottom.",
        _one({"anchor": "top-left"}),
    ),
    Fault(
        "letterbox-moved",
        "the photo lies elsewhere in the letterbox",
        Step.LAYOUT,
        "Lay the photo at left (W - w)/2 and top (H - h)/2, in whole numbers.",
        _fields(bottom_right={"anchor": "bottom-right"}, down_8={"shift_yx": (8, 0)}),
    ),
    Fault(
        "shift-one-pixel",
        "the picture lies one pixel off",
        Step.LAYOUT,
        "Round the letterbox offsets down, (W - w)/2 in whole numbers.",
        tuple(
            Variant(n, {"shift_yx": v})
            for n, v in {
                "right": (0, 1), "down": (1, 0), "down-right": (1, 1), "left": (0, -1),
                "up": (-1, 0), "up-left": (-1, -1), "up-right": (-1, 1), "down-left": (1, -1),
            }.items()
        ),
    ),
)  # fmt: skip

_TENSOR = (
    Fault(
        "input-never-written",
        "the input buffer is empty, or its end is",
        Step.TENSOR,
        "Rewind the buffer before it is handed over (ByteBuffer.rewind()), and fill it to its end.",
        (
            Variant("all", tensor.never_written(1)),
            Variant("half", tensor.never_written(0.5)),
            Variant("three-quarters", tensor.never_written(0.75)),
            Variant("a-quarter", tensor.never_written(0.25)),
        ),
    ),
    Fault(
        "normalise-twice",
        "normalised by the app although the artifact does it",
        Step.TENSOR,
        "Feed 0..255; the artifact normalises inside its graph.",
        (
            Variant("0-to-1", tensor.scaled(1 / 255)),
            Variant("minus-1-to-1", tensor.scaled(1 / 127.5, -1)),
        ),
    ),
    Fault(
        "normalise-per-channel",
        "normalised by ImageNet's mean and deviation per channel",
        Step.TENSOR,
        "Feed 0..255; drop the per-channel mean and standard deviation.",
        _one(tensor.imagenet),
    ),
    Fault(
        "mean-only",
        "the mean is subtracted but nothing divided",
        Step.TENSOR,
        "Feed 0..255; the artifact subtracts and divides inside its graph.",
        (Variant("imagenet", tensor.less_mean), Variant("127.5", tensor.scaled(1, -127.5))),
    ),
    Fault(
        "row-stride",
        "the padding at the end of the buffer's rows is read as pixels",
        Step.TENSOR,
        "Step from row to row by the buffer's row stride (bytesPerRow), not by its width.",
        (
            *(Variant(str(n), tensor.padded_rows(n)) for n in (16, 8, 4, 32, 64, 1, 2)),
            Variant("256-bytes", tensor.aligned_rows(256)),
        ),
    ),
    Fault(
        "alpha-first",
        "the alpha byte comes first and is read as a colour (ARGB, ABGR)",
        Step.TENSOR,
        "Skip the alpha byte: read the colours in the order that the bitmap's format names.",
        (Variant("argb", tensor.alpha_first("argb")), Variant("abgr", tensor.alpha_first("abgr"))),
    ),
    Fault(
        "input-big-endian",
        "the input's floats have their bytes in the wrong order",
        Step.TENSOR,
        "Write little-endian floats: ByteBuffer.order(ByteOrder.nativeOrder()).",
        _one(tensor.bytes_reversed),
        precision="float",
        replayed=False,
    ),
    Fault(
        "normalise-missing",
        "the artifact's own normalisation is missing",
        Step.NETWORK,
        "Export the artifact with the normalisation inside its graph (panokit export does).",
        (
            Variant("127-128", lambda x: x * np.float32(128) + np.float32(127)),
            Variant("255", lambda x: x * np.float32(255)),
        ),
        precision="float",
    ),
    Fault(
        "input-nchw",
        "input written in planes (NCHW) instead of pixels (NHWC)",
        Step.TENSOR,
        "Write the input in the layout that the manifest names, R, G, B of each pixel together.",
        _one(tensor.planar),
    ),
    Fault(
        "input-transposed",
        "rows and columns of the input swapped",
        Step.TENSOR,
        "Write the input row by row: index (y·W + x)·3 + c.",
        _one(tensor.transposed),
    ),
    Fault(
        "input-zero-point",
        "the input's zero point was not applied",
        Step.TENSOR,
        "Quantise the input as round(value / scale) + zero_point with the manifest's figures.",
        _one(tensor.without_zero_point),
        precision="integer",
    ),
    Fault(
        "input-signed",
        "unsigned bytes put into a signed input",
        Step.TENSOR,
        "Subtract 128 from each byte (the zero point) instead of copying the bytes.",
        _one(tensor.bytes_as_signed),
        precision="integer",
    ),
)

INPUT_FAULTS = (*_SOURCE, *_LAYOUT, *_TENSOR)
