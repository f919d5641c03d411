"""Mistakes of apps that decode other contracts than ``center-offset``.

Each is the decoding, or the input, with other settings: what an app does that took them from
another network of the family, from another exporter, or from memory. A contract's mistakes are in
one function here; a new one costs a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from panokit.decoding import (
    DecodingSettings,
    InstancesConfig,
    InstancesSemanticConfig,
    MaskQueriesConfig,
    SemanticConfig,
)
from panokit.errors import ArgumentError
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy

__all__ = ["ContractFault", "decoding_faults", "input_faults", "named_fault", "network_faults"]


@dataclass(frozen=True)
class ContractFault:
    """A mistake in one of its forms: ``settings`` of the decoding, or the ``preprocessing``, as the
    app has them."""

    name: str
    variant: str
    title: str
    advice: str
    settings: DecodingSettings | None = None
    preprocessing: PreprocessConfig | None = None


def decoding_faults(settings: DecodingSettings, taxonomy: Taxonomy) -> list[ContractFault]:
    """The mistakes in decoding that can be made with these settings."""
    if isinstance(settings, InstancesSemanticConfig):
        parts: list[ContractFault] = []
        for f in decoding_faults(settings.instances, taxonomy):
            if isinstance(f.settings, InstancesConfig):
                parts.append(replace(f, settings=replace(settings, instances=f.settings)))
        for f in decoding_faults(settings.semantic, taxonomy):
            if isinstance(f.settings, SemanticConfig):
                parts.append(replace(f, settings=replace(settings, semantic=f.settings)))
        return [*parts, *_merge(settings)]
    makers: dict[type[DecodingSettings], Any] = {
        MaskQueriesConfig: _queries,
        InstancesConfig: _instances,
        SemanticConfig: _semantic,
    }
    maker = makers.get(type(settings))
    found = list(maker(settings, taxonomy)) if maker else []
    return [f for f in found if f.settings is not None and f.settings != settings]


def _with(
    settings: Any, name: str, title: str, advice: str, **variants: dict[str, Any]
) -> Iterator[ContractFault]:
    """A fault with a variant for each set of changes; what cannot be is left out."""
    for label, changes in variants.items():
        try:
            changed = replace(settings, **changes)
        except ArgumentError:
            continue
        yield ContractFault(name, label.replace("_", "-"), title, advice, changed)


def _values(field: str, *values: float, prefix: str = "", **also: Any) -> dict[str, dict[str, Any]]:
    """A variant for each value of a field."""
    return {f"{prefix}{v:g}".replace(".", "_"): {field: v, **also} for v in values}


def _columns(settings: Any, taxonomy: Taxonomy) -> Iterator[ContractFault]:
    own = settings.columns or tuple(range(len(taxonomy)))
    if len(own) < 2:
        return
    yield from _with(
        settings,
        "class-table",
        "class names from a table that is shifted or of another order",
        "Name class i by the manifest's category i. Tables of 80, 90, 91 and 133 classes differ.",
        plus_1={"columns": (-1, *own[:-1])},
        minus_1={"columns": (*own[1:], -1)},
        reversed={"columns": own[::-1]},
    )


def _queries(s: MaskQueriesConfig, taxonomy: Taxonomy) -> Iterator[ContractFault]:
    yield from _with(
        s,
        "class-activation",
        "softmax and sigmoid of the class logits mixed up",
        "Apply the class activation that the manifest names, over all columns.",
        softmax={"classes": "softmax"},
        sigmoid={"classes": "sigmoid"},
        none={"classes": "probabilities"},
    )
    yield from _with(
        s,
        "no-object",
        "the column 'no object' taken for a class, or a class for it",
        "The last column is 'no object': leave its queries out, and give it no class.",
        as_class={"no_object": False, "columns": (*_own(s, taxonomy), -1)},
    )
    yield from _with(
        s,
        "owner",
        "pixels given to the surest query first, or to the strongest at each pixel, the wrong way",
        "Give pixels to queries as the manifest says: `best` at each pixel, or `first` in order.",
        first={"owner": "first", "weighted": False},
        best={"owner": "best"},
    )
    yield from _with(
        s,
        "threshold",
        "another score threshold",
        "Use the manifest's threshold, and > rather than ≥.",
        **_values(
            "threshold",
            0.0,
            0.05,
            0.25,
            0.3,
            0.4,
            0.5,
            0.6,
            0.7,
            0.8,
            0.85,
            0.9,
            stuff_threshold=None,
        ),
    )
    yield from _with(
        s,
        "mask-resize",
        "masks resized in another order or on another grid",
        "Resize the logits to the input, cut the padding off, resize to the photo, then sigmoid.",
        sigmoid_first={"activate_last": False},
        sigmoid_first_on_head={"mask_grid": "head", "crop_first": False, "activate_last": False},
        at_once={"mask_grid": "head", "crop_first": False},
        fixed_384={"mask_grid": (384, 384), "crop_first": False, "activate_last": False},
        aligned_corners={"align_corners": not s.align_corners},
    )
    yield from _with(
        s,
        "padding-decoded",
        "values from the padding mixed into the photo",
        "Cut the padding off the resized masks before the last resize.",
        mixed={"crop_first": False},
    )
    yield from _with(
        s,
        "mask-activation",
        "sigmoid and softmax over queries mixed up",
        "Apply the mask activation that the manifest names.",
        sigmoid={"activation": "sigmoid"},
        softmax={"activation": "softmax"},
    )
    yield from _with(
        s,
        "mask-threshold",
        "another mask threshold",
        "Use the manifest's mask threshold.",
        **_values("mask_threshold", 0.3, 0.4, 0.5, 0.6),
    )
    yield from _with(
        s,
        "overlap",
        "another overlap rule",
        "Divide what a query owns by what its mask holds, over all pixels, and compare as told.",
        **_values("overlap", 0.0, 0.5, 0.6, 0.7, 0.8, 0.9),
        weighted={"weighted": True},
        plain={"weighted": False},
    )
    yield from _with(
        s,
        "painted",
        "pixels painted that the query only owns, or only those of its mask",
        "Paint what the manifest says: all owned pixels, or only those inside the mask.",
        owned={"painted": "owned"},
        inside={"painted": "inside"},
    )
    yield from _columns(s, taxonomy)


def _own(s: Any, taxonomy: Taxonomy) -> tuple[int, ...]:
    return tuple(s.columns) or tuple(range(len(taxonomy)))


def _instances(s: InstancesConfig, taxonomy: Taxonomy) -> Iterator[ContractFault]:
    yield from _with(
        s,
        "box-form",
        "boxes read in another form: corners for centre and size, or the other way round",
        "Read boxes as the manifest says: centre x, centre y, width, height, or both corners.",
        corners={"box": "corners"},
        center={"box": "center"},
    )
    yield from _with(
        s,
        "box-unit",
        "boxes in pixels taken for shares of the input, or the other way round",
        "TFLite files of YOLO hold shares of the input, ONNX files pixels: multiply, or do not.",
        pixels={"box_unit": "pixels"},
        input={"box_unit": "input"},
    )
    yield from _with(
        s,
        "threshold",
        "another score threshold",
        "Use the manifest's threshold.",
        **_values("threshold", 0.0, 0.001, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7),
    )
    yield from _with(
        s,
        "nms",
        "non-maximum suppression left out, done twice, or with other limits",
        "Suppress once, per class, at the manifest's IoU; files with suppression inside need none.",
        missing={"nms": None},
        **_values("nms", 0.3, 0.45, 0.5, 0.6, 0.65, 0.7, prefix="iou_"),
        across_classes={"class_wise": False, "nms": s.nms if s.nms is not None else 0.7},
    )
    yield from _with(
        s,
        "mask-activation",
        "the sigmoid of the masks left out or doubled",
        "Compare logits with 0, or probabilities with 0.5.",
        sigmoid={"activation": "sigmoid", "mask_threshold": 0.5},
        logits_with_half={"activation": "none", "mask_threshold": 0.5},
        probabilities_with_zero={"activation": "sigmoid", "mask_threshold": 0.0},
    )
    yield from _with(
        s,
        "mask-crop",
        "masks cut to their box at another moment",
        "Resize the mask to the input, then cut it to the box.",
        before={"crop": "before"},
        after={"crop": "after"},
        never={"crop": "none"},
    )
    yield from _with(
        s,
        "class-activation",
        "the sigmoid of the class scores left out or doubled",
        "Apply the class activation that the manifest names, once.",
        sigmoid={"classes": "sigmoid"},
        none={"classes": "probabilities"},
        softmax={"classes": "softmax"},
    )
    yield from _with(
        s,
        "background",
        "the background column taken for a class",
        "Leave the background column out.",
        first={"background": "first"},
        last={"background": "last"},
    )
    yield from _columns(s, taxonomy)


def _semantic(s: SemanticConfig, taxonomy: Taxonomy) -> Iterator[ContractFault]:
    yield from _with(
        s,
        "head-align-corners",
        "logits resized with the other corner rule",
        "Resize with the corner rule that the manifest names.",
        other={"align_corners": not s.align_corners},
    )
    yield from _with(
        s,
        "least-areas",
        "another least area",
        "Use the manifest's least area.",
        none={"min_area": 0},
    )
    yield from _columns(s, taxonomy)


def _merge(s: InstancesSemanticConfig) -> Iterator[ContractFault]:
    merges = {
        **_values("overlap", 0.0, 0.3, 0.5, 0.8, 1.0, prefix="overlap_"),
        "given_order": {"order": "given"},
        "no_least_area": {"min_stuff_area": 0},
    }
    for label, changes in merges.items():
        merge = replace(s.merge, **changes)
        if merge != s.merge:
            yield ContractFault(
                "merge",
                label.replace("_", "-"),
                "instances and stuff joined by another rule",
                "Paint the best instances first, then stuff; use the manifest's limits.",
                replace(s, merge=merge),
            )


_LAYOUTS = {
    "letterbox": ("stretched", "centred where it is stretched or in the corner"),
    "top-left": ("padding-top-left", "in the corner where it is centred or stretched"),
    "stretch": ("stretched", "stretched where it keeps its proportions"),
}


def input_faults(config: PreprocessConfig) -> list[ContractFault]:
    """The mistakes in the picture that the input is made of."""
    found: list[ContractFault] = []
    for fit, (name, text) in _LAYOUTS.items():
        if fit != config.fit:
            advice = f"Lay the photo into the input as the manifest says: {config.fit}."
            changed = replace(config, fit=fit)  # type: ignore[arg-type]
            found.append(ContractFault(name, fit, f"the photo lies {text}", advice, None, changed))
    for value in (0, 114, 128, 255):
        if config.fit != "stretch" and config.padding != (value,) * 3:
            found.append(
                ContractFault(
                    "padding-color", str(value), "another colour beside the photo",
                    f"Pad with RGB {config.padding}.", None,
                    replace(config, padding=(value,) * 3),
                )
            )  # fmt: skip
    return [*found, _swapped(config)]


def _swapped(config: PreprocessConfig) -> ContractFault:
    changed = replace(config, order="rgb" if config.order == "bgr" else "bgr")
    advice = "Swap the first and third channel of the bitmap."
    return ContractFault("bgr", "", "red and blue swapped (BGR)", advice, None, changed)


def network_faults(config: PreprocessConfig) -> list[ContractFault]:
    """The mistakes in the numbers that a float input is given, where the picture is right."""
    known: dict[str, tuple[Any, Any]] = {
        "0-255": ((0.0,) * 3, (1.0,) * 3),
        "0-1": ((0.0,) * 3, (255.0,) * 3),
        "-1-1": ((127.5,) * 3, (127.5,) * 3),
        "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    }
    found = [
        ContractFault(
            "normalisation", name, "the input has another range than the network was trained on",
            f"Feed (value - {config.mean}) / {config.std} of 0..255.", None,
            replace(config, mean=mean, std=std),
        )
        for name, (mean, std) in known.items()
        if (mean, std) != (config.mean, config.std)
    ]  # fmt: skip
    return [*found, _swapped(config)]


def named_fault(
    name: str, settings: DecodingSettings, preprocessing: PreprocessConfig, taxonomy: Taxonomy
) -> ContractFault:
    """A fault by ``NAME`` or ``NAME:VARIANT``; ``ArgumentError`` lists those of this bundle."""
    known = [*decoding_faults(settings, taxonomy), *input_faults(preprocessing)]
    known += network_faults(preprocessing)
    wanted, _, variant = name.partition(":")
    for fault in known:
        if fault.name == wanted and variant in ("", fault.variant):
            return fault
    labels = {f"{f.name}:{f.variant}" if f.variant else f.name: None for f in known}
    raise ArgumentError.unknown("fault", name, labels)
