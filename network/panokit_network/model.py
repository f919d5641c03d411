"""The network: one file, image in, three heads out.

A light Panoptic-DeepLab (Cheng et al., https://arxiv.org/abs/1911.10194): a shared
backbone, a feature pyramid of depthwise-separable convolutions, and at stride
4 one branch for what each pixel is and one for where its object's centre lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from panokit.config import read_settings, write_settings
from panokit.errors import ArgumentError
from panokit_network.backbone import BACKBONES, Backbone, Conv

__all__ = ["HEAD_NAMES", "NetworkConfig", "PanopticNetwork"]

HEAD_NAMES = ("semantic", "center", "offset")


# A file from outside must not choose how much memory is taken.
MAX_WIDTH, MAX_DILATION, MAX_BLOCKS = 4096, 64, 16


@dataclass(frozen=True)
class NetworkConfig:
    """The backbone by name (``efficientnet-lite0`` or ``mobilenet-v2``) and sizes of the decoder.

    ``classes`` is the number of categories (semantic channels); the widths are channel counts.
    """

    classes: int = 26
    pyramid_width: int = 128  # strides 32, 16 and 8
    semantic_width: int = 128  # stride 4, what each pixel is
    instance_width: int = 96  # stride 4, where its centre is
    head_width: int = 32  # last hidden layer of centre and offset
    context_dilations: tuple[int, ...] = (1, 2, 3)  # blocks at stride 32 that widen the view
    backbone: str = "efficientnet-lite0"

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ArgumentError.unknown("backbone", self.backbone, BACKBONES)
        for name, value in asdict(self).items():
            if name == "backbone":
                continue
            values = value if isinstance(value, tuple) else (value,)
            most = MAX_DILATION if isinstance(value, tuple) else MAX_WIDTH
            if len(values) > MAX_BLOCKS or not all(
                type(v) is int and 1 <= v <= most for v in values
            ):
                expected = f"whole numbers from 1 to {most}"
                raise ArgumentError(name, f"{name} is {value!r:.80}; expected {expected}")

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Read what :meth:`to_json` wrote; unknown names are an error."""
        return read_settings(cls, data, "network")


class Separable(nn.Module):
    """Depthwise 3×3 then pointwise, each with batch norm and ReLU6; optionally residual."""

    def __init__(
        self, in_channels: int, out_channels: int, dilation: int = 1, residual: bool = False
    ) -> None:
        super().__init__()
        self.depthwise = Conv(in_channels, in_channels, 3, groups=in_channels, dilation=dilation)
        self.pointwise = Conv(in_channels, out_channels)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if self.residual else y


class Normalize(nn.Module):
    """0..255 pixels to the range the ImageNet weights expect, (x - 127) / 128.

    The image is padded with black *before* this, so that the whole step folds into the first
    convolution (see :mod:`panokit_network.deploy`) and costs no operator on the device.
    """

    mean = 127.0
    scale = 1.0 / 128.0

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class PanopticNetwork(nn.Module):
    """Image float32 ``[N,3,H,W]``, RGB, 0..255, H and W multiples of 32 → three heads.

    Returns a dict with ``semantic`` ``[N,C,H/4,W/4]`` logits, ``center`` ``[N,1,H/4,W/4]``
    logits, and ``offset`` ``[N,2,H/4,W/4]`` (dy, dx) in input pixels.
    """

    stride = 4
    dropout = 0.0  # share of feature channels of both branches left out while training

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or NetworkConfig()
        self.normalize: nn.Module = Normalize()
        self.backbone = Backbone(c.backbone)
        s4, s8, s16, s32 = self.backbone.channels
        p, q, r = c.pyramid_width, c.semantic_width, c.instance_width
        self.reduce32 = Conv(s32, p)
        self.context = nn.Sequential(
            *(Separable(p, p, dilation=d, residual=True) for d in c.context_dilations)
        )
        self.lateral16, self.merge16 = Conv(s16, p), Separable(p, p)
        self.lateral8, self.merge8 = Conv(s8, p), Separable(p, p)
        self.semantic_up, self.semantic_lateral = Conv(p, q), Conv(s4, q)
        self.semantic_body = nn.Sequential(Separable(q, q), Separable(q, q))
        self.semantic_head = nn.Conv2d(q, c.classes, 1)
        self.instance_up, self.instance_lateral = Conv(p, r), Conv(s4, r)
        self.instance_body = nn.Sequential(Separable(r, r), Separable(r, r))
        self.center_body, self.center_head = Separable(r, c.head_width), _head(c.head_width, 1)
        self.offset_body, self.offset_head = Separable(r, c.head_width), _head(c.head_width, 2)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        _, s, i = self.branches(image)
        return {
            "semantic": self.semantic_head(s),  # [N,C,H/4,W/4]
            "center": self.center_head(self.center_body(i)),  # [N,1,H/4,W/4]
            "offset": self.offset_head(self.offset_body(i)),  # [N,2,H/4,W/4]
        }

    def branches(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pyramid at stride 16, and both branches before their heads, at stride 4."""
        f4, f8, f16, f32 = self.features(image)
        x = self.context(self.reduce32(f32))  # [N,p,H/32,W/32]
        x = x16 = self.merge16(_upsample(x) + self.lateral16(f16))  # [N,p,H/16,W/16]
        x = self.merge8(_upsample(x) + self.lateral8(f8))  # [N,p,H/8,W/8]
        # 1×1 before the resize: the same result as after it, at a quarter of the work.
        s = self.semantic_body(_upsample(self.semantic_up(x)) + self.semantic_lateral(f4))
        i = self.instance_body(_upsample(self.instance_up(x)) + self.instance_lateral(f4))
        if self.training and self.dropout:
            s, i = F.dropout2d(s, self.dropout), F.dropout2d(i, self.dropout)
        return x16, s, i

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        stem = self.backbone.stem
        if stem.same_pad is None or isinstance(self.normalize, nn.Identity):
            taps: tuple[Tensor, Tensor, Tensor, Tensor] = self.backbone(image)
            return taps
        # Pad black pixels first, then normalise; the stem must not pad again.
        before, after = stem.same_pad
        x = self.normalize(F.pad(image, (before, after, before, after)))
        return self.backbone.from_stem(stem.act(stem.normalized(x)))


def _head(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1)
