"""A :class:`panokit.Segmenter` as :func:`panokit_datasets.quality.evaluate` wants it."""

from __future__ import annotations

from panokit.photo import Photo
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
from panokit_datasets.quality.evaluate import Prediction
from panokit_datasets.quality.evaluate import Segmenter as Predictor

__all__ = ["predictor"]


def predictor(segmenter: Segmenter) -> Predictor:
    """Predictions of an artifact: panoptic map and, of contracts that tell each pixel's class
    before objects are formed, class map; both on the photo."""

    def predict(photo: Photo) -> Prediction:
        stages = segmenter.stages(photo, explain=True)
        taxonomy, transform = segmenter.taxonomy, stages.transform
        result = PanopticResult.from_map(photo, stages.panoptic, taxonomy, transform)
        classes = stages.panoptic.explain.get("class_map")
        class_map = None if classes is None else transform.map_to_photo(classes)
        segments = [(s.id, taxonomy.channel(s.category.id), s.score) for s in result]
        return Prediction(result.id_map, segments, class_map)

    return predict
