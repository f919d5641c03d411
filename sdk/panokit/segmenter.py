"""Photo in, panoptic result out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact, Bundle
from panokit.decoding import DecodingSettings, PanopticMap
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import TransformRecord, preprocess
from panokit.result import PanopticResult
from panokit.runtime import Runtime, open_runtime, read_heads

__all__ = ["PhotoLike", "Segmenter", "Stages", "as_photo"]

if TYPE_CHECKING:
    from PIL import Image

PhotoLike: TypeAlias = "Photo | NDArray[np.uint8] | str | os.PathLike[str] | bytes | Image.Image"


@dataclass(frozen=True)
class Stages:
    """Every stage of one photo's way: what a device dump holds.

    ``input_hwc`` uint8 ``[H,W,3]``; ``raw`` heads as the artifact gave them ``[h,w,C]``; ``heads``
    their real values, as the contract has them (``Heads`` of center-offset); ``panoptic`` the
    decoded map.
    """

    photo: Photo
    transform: TransformRecord
    input_hwc: NDArray[np.uint8]
    raw: dict[str, NDArray[Any]]
    heads: Any
    panoptic: PanopticMap


class Segmenter:
    """Runs one artifact of a bundle on photos.

    >>> result = Segmenter.open().segment("photo.jpg")  # doctest: +SKIP
    >>> result.counts  # doctest: +SKIP
    {'person': 2, 'dog': 1}
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, runtime: Runtime) -> None:
        self.bundle, self.artifact, self.runtime = bundle, artifact, runtime
        self.taxonomy = bundle.manifest.taxonomy

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        artifact: str | None = None,
        threads: int = 2,
    ) -> Segmenter:
        """Open a bundle (the shipped one by default) and load one of its artifacts (by default
        the int8 TFLite one)."""
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        chosen = opened.manifest.artifact(artifact)
        return cls(opened, chosen, open_runtime(opened, chosen, threads))

    def __repr__(self) -> str:
        w, h = self.bundle.manifest.preprocessing.size_wh
        return f"<Segmenter {self.artifact.name} of {self.taxonomy.name!r}, {w}x{h}>"

    @overload
    def segment(
        self,
        photo: PhotoLike,
        *,
        classes: Sequence[int | str] = (),
        config: DecodingSettings | None = None,
    ) -> PanopticResult: ...

    @overload
    def segment(
        self,
        photo: list[PhotoLike] | tuple[PhotoLike, ...],
        *,
        classes: Sequence[int | str] = (),
        config: DecodingSettings | None = None,
    ) -> list[PanopticResult]: ...

    def segment(
        self,
        photo: PhotoLike | list[PhotoLike] | tuple[PhotoLike, ...],
        *,
        classes: Sequence[int | str] = (),
        config: DecodingSettings | None = None,
    ) -> PanopticResult | list[PanopticResult]:
        """Segment a photo: a path, file bytes, a :class:`Photo`, a picture of Pillow's, or sRGB
        uint8 ``[H,W,3]``; or several of them, one after the other: a list gives a list.

        ``classes`` keeps only these categories (names or ids), the rest becomes background;
        ``config`` replaces the bundle's postprocessing parameters.
        """
        if isinstance(classes, str):
            raise ArgumentError(
                "classes", f"classes are {classes!r}; expected a list of names or ids"
            )
        for name in classes:
            self.taxonomy.get(name)  # a wrong name is told before the work is done
        if isinstance(photo, list | tuple):
            return [self.segment(one, classes=classes, config=config) for one in photo]
        stages = self.stages(photo, config=config)
        result = PanopticResult.from_map(
            stages.photo, stages.panoptic, self.taxonomy, stages.transform, self.artifact.name
        )
        return result.only(*classes) if classes else result

    def stages(
        self,
        photo: PhotoLike,
        *,
        config: DecodingSettings | None = None,
        explain: bool = False,
    ) -> Stages:
        """Every stage of a photo; ``explain`` adds the postprocessing's intermediates."""
        photo = as_photo(photo)
        manifest = self.bundle.manifest
        image, transform = preprocess(photo, manifest.preprocessing)
        raw = self.runtime.run(image)
        settings = config or manifest.postprocessing
        heads = read_heads(raw, self.artifact, settings)
        decoded = settings.decode(heads, self.taxonomy, transform, explain=explain)
        return Stages(photo, transform, image, raw, heads, decoded)


def as_photo(photo: PhotoLike) -> Photo:
    """A photo of whatever :meth:`Segmenter.segment` takes."""
    if isinstance(photo, Photo):
        return photo
    if isinstance(photo, np.ndarray):
        return Photo.from_array(photo)
    if isinstance(photo, str | bytes | os.PathLike):
        return Photo.open(photo)
    return Photo.from_image(photo)
