"""Networks of Transformers and torchvision, with small random weights, in every format.

    python -m benchmarks.foreign_networks                  # all, some minutes
    python -m benchmarks.foreign_networks --docs           # and into docs/contracts.md
    python -m benchmarks.foreign_networks --only eomt,segformer --formats tflite --recipe int8

Each is exported as a user does it, without a word about its contract, and compared with the module
as it was given on the sample photos. Needs `transformers` and `torchvision`; what is missing is
left out. Class scores are made sharp, so that random weights give maps with segments.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import re
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from panokit._files import write_json
from panokit.errors import PanokitError
from panokit.taxonomy import Taxonomy
from panokit_converters.adapt import KnownOfModule
from panokit_lab.export import ExportRequest, run_export
from panokit_network.deploy import count_parameters
from panokit_network.source import NetworkSource

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "contracts.md"
BEGIN, END = "<!-- foreign networks -->", "<!-- end of foreign networks -->"
FORMATS = {"tflite": "TFLite", "coreml": "Core ML", "onnx": "ONNX"}
CLASSES = 40
SIZE = 128
PACKAGES = ("torch", "transformers", "torchvision", "litert-torch", "coremltools", "onnxruntime")


@dataclass(frozen=True)
class Outcome:
    """What came of a network in a format: ``word`` is ``ok``, ``below``, ``refused``, ``unchecked``
    or ``error``; ``text`` the worst head's figure or the sentence."""

    word: str
    text: str
    seconds: float


def eomt(annealed: bool = True) -> nn.Module:
    """A plain vision transformer with queries. ``annealed``: trained to the end, without masks in
    its attention."""
    from transformers import EomtConfig, EomtForUniversalSegmentation

    config = EomtConfig(
        hidden_size=192, num_hidden_layers=6, num_attention_heads=3, image_size=SIZE,
        patch_size=16, num_blocks=2, num_queries=32, num_register_tokens=0, num_labels=CLASSES,
    )  # fmt: skip
    module = EomtForUniversalSegmentation(config)
    if annealed:
        module.attn_mask_probs.zero_()
    return sharp(module, "class_predictor")


def eomt_training() -> nn.Module:
    """The same with masked attention, as it is before the end of its training."""
    return eomt(annealed=False)


def swin() -> Any:
    """A small backbone for the next ones."""
    from transformers import SwinConfig

    return SwinConfig(
        image_size=SIZE, embed_dim=24, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


def maskformer() -> nn.Module:
    """A pixel decoder, and a decoder of queries by cross-attention."""
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation

    decoder = DetrConfig(
        d_model=64, encoder_layers=1, decoder_layers=3, encoder_ffn_dim=128, decoder_ffn_dim=128,
        encoder_attention_heads=4, decoder_attention_heads=4, num_queries=32,
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=swin(), decoder_config=decoder, fpn_feature_size=64,
        mask_feature_size=64, num_labels=CLASSES,
    )  # fmt: skip
    return sharp(MaskFormerForInstanceSegmentation(config), "class_predictor")


def mask2former() -> nn.Module:
    """Deformable attention in the pixel decoder, masked attention of the queries."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    config = Mask2FormerConfig(
        backbone_config=swin(), feature_size=64, mask_feature_size=64, hidden_dim=64,
        encoder_feedforward_dim=128, dim_feedforward=128, encoder_layers=2, decoder_layers=4,
        num_attention_heads=4, num_queries=32, num_labels=CLASSES,
    )  # fmt: skip
    return sharp(Mask2FormerForUniversalSegmentation(config), "class_predictor")


def mask2former_eager() -> nn.Module:
    """The same with attention written out."""
    module: Any = mask2former()
    module.set_attn_implementation("eager")
    return module  # type: ignore[no-any-return]


def segformer() -> nn.Module:
    """A transformer of four resolutions, and a perceptron over them: SegFormer-B0."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    module: nn.Module = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES))
    return module


def lraspp() -> nn.Module:
    """MobileNetV3 with a gate of its own mean."""
    kind = importlib.import_module("torchvision.models.segmentation").lraspp_mobilenet_v3_large
    return kind(weights=None, weights_backbone=None, num_classes=CLASSES)  # type: ignore[no-any-return]


def deeplabv3() -> nn.Module:
    """MobileNetV3 with pooling at four rates."""
    kind = importlib.import_module("torchvision.models.segmentation").deeplabv3_mobilenet_v3_large
    return kind(weights=None, weights_backbone=None, num_classes=CLASSES)  # type: ignore[no-any-return]


def mask_rcnn() -> nn.Module:
    """Two stages, and masks pasted in a loop."""
    kind = importlib.import_module("torchvision.models.detection").maskrcnn_resnet50_fpn
    return kind(weights=None, weights_backbone=None, num_classes=CLASSES)  # type: ignore[no-any-return]


def panokit_queries() -> nn.Module:
    """Our own query network."""
    from panokit_network.model import NetworkConfig
    from panokit_network.queries import QueryNetwork

    return sharp(QueryNetwork(NetworkConfig(classes=CLASSES)), "class_head")


@dataclass(frozen=True)
class Network:
    """A network to try: where it comes from, and what makes it."""

    title: str
    package: str
    build: Callable[[], nn.Module]


NETWORKS = {
    "eomt": Network("EoMT", "transformers", eomt),
    "eomt-training": Network("EoMT, masks in its attention", "transformers", eomt_training),
    "mask2former": Network("Mask2Former (Swin)", "transformers", mask2former),
    "mask2former-eager": Network("Mask2Former, eager attention", "transformers", mask2former_eager),
    "maskformer": Network("MaskFormer (Swin)", "transformers", maskformer),
    "segformer": Network("SegFormer-B0", "transformers", segformer),
    "deeplabv3": Network("DeepLabV3 (MobileNetV3)", "torchvision", deeplabv3),
    "lraspp": Network("LR-ASPP (MobileNetV3)", "torchvision", lraspp),
    "mask-rcnn": Network("Mask R-CNN (ResNet-50)", "torchvision", mask_rcnn),
    "panokit-queries": Network("our query network", "panokit", panokit_queries),
}


def sharp(module: nn.Module, layer: str, factor: float = 40.0) -> nn.Module:
    """``module`` with the numbers of its class layer multiplied: random ones are too near each
    other to give segments."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if layer in name:
                parameter.mul_(factor)
    return module


def open_torchvision() -> None:
    """Import torchvision; where its compiled operators do not fit torch, without them: only
    detectors use them."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # its operators are not there to be described
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        name = "torchvision._meta_registrations"
        sys.modules[name] = types.ModuleType(name)
        importlib.import_module("torchvision")
    except ImportError:
        pass


def taxonomy() -> Taxonomy:
    """Forty classes, things first."""
    things, stuff = ([f"{kind}{i}" for i in range(CLASSES // 2)] for kind in ("thing", "stuff"))
    return Taxonomy.from_json({"name": "forty", "things": things, "stuff": stuff})


def tried(name: str, format: str, recipe: str, folder: Path) -> Outcome:
    """Export one network in one format."""
    torch.manual_seed(0)
    started = time.monotonic()
    word, text = "ok", ""
    try:
        source = NetworkSource.from_module(NETWORKS[name].build().eval(), taxonomy(), name)
        request = ExportRequest(
            None, folder / f"{name}-{format}.panokit", (recipe,), (format,), SIZE,
            strict=False, known=KnownOfModule(),
        )  # fmt: skip
        result = run_export(request, source=source)
        if result.unchecked:
            word, text = "unchecked", next(iter(result.unchecked.values()))
        else:
            (check,) = result.checks.values()
            word = "below" if check.failures else "ok"
            worst = min(h.sqnr_db for h in check.agreement.heads.values())
            panoptic = check.agreement.panoptic
            equal = 0.0 if panoptic is None else panoptic.equal_pixels + panoptic.ties
            text = f"{worst:.0f} dB, {100 * equal:.2f} %"
    except PanokitError as error:
        word, text = "refused", str(error)
    except Exception as error:  # what must not happen: a traceback at the user's
        word, text = "error", f"{type(error).__name__}: {error}"
    return Outcome(word, " ".join(text.split()), round(time.monotonic() - started, 1))


def main() -> None:
    """Try what is asked for, print a table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--recipe", default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the table into the page")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    open_torchvision()
    results: dict[str, dict[str, Outcome]] = {}
    sizes: dict[str, float] = {}
    for name in given.only.split(","):
        if not _is_there(NETWORKS[name].package):
            sys.stderr.write(f"{name}: {NETWORKS[name].package} is not installed\n")
            continue
        sizes[name] = count_parameters(NETWORKS[name].build()) / 1e6
        results[name] = {}
        for format in given.formats.split(","):
            with tempfile.TemporaryDirectory() as folder:
                found = tried(name, format, given.recipe, Path(folder))
            results[name][format] = found
            sys.stderr.write(f"{name} {format} {found.word} {found.text} ({found.seconds} s)\n")
    table = page_table(results, sizes)
    sys.stdout.write(table)
    if given.json:
        write_json(
            given.json, {n: {f: asdict(o) for f, o in r.items()} for n, r in results.items()}
        )
    if given.docs:
        text = PAGE.read_text(encoding="utf-8")
        pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.S)
        changed = pattern.sub(lambda _: f"{BEGIN}\n{table}{END}", text)
        PAGE.write_text(changed, encoding="utf-8")


def page_table(results: dict[str, dict[str, Outcome]], sizes: dict[str, float]) -> str:
    """The outcomes as Markdown, sentences below."""
    formats = next(iter(results.values()), {})
    lines = [
        f"| network | M | {' | '.join(FORMATS[f] for f in formats)} |",
        "|---|---|" + "---|" * len(formats),
    ]
    said: dict[str, list[str]] = {}  # by sentence, where it was said
    for name, row in results.items():
        cells = [o.text if o.word in ("ok", "below") else o.word for o in row.values()]
        cells = [f"{c} **(below)**" if o.word == "below" else c
                 for c, o in zip(cells, row.values(), strict=True)]  # fmt: skip
        lines.append(f"| {NETWORKS[name].title} | {sizes[name]:.2f} | {' | '.join(cells)} |")
        for format, outcome in row.items():
            if outcome.word not in ("ok", "below"):
                told = outcome.text.replace("|", "/")
                said.setdefault(told, []).append(f"{NETWORKS[name].title}, {FORMATS[format]}")
    used = ", ".join(f"{p} {_version(p)}" for p in PACKAGES if _version(p))
    notes = [f"- {'; '.join(places)}: {told}" for told, places in said.items()]
    return "\n".join([*lines, "", *notes, "", f"With {used}."]) + "\n"


def _is_there(package: str) -> bool:
    return package == "panokit" or bool(_version(package))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
