"""A result.json, written out: the layout that files have."""

from __future__ import annotations

from typing import Any

CLASS = {"pq": 50.0, "sq": 80.0, "rq": 62.5, "tp": 3, "fp": 1, "fn": 2}
PHOTO = {
    "name": "a.jpg", "image_id": 7, "complete": True, "pq": 40.5, "miou": 0.4, "person_pq": None,
    "person_iou": 0.5, "person_boundary_iou": None,
}  # fmt: skip
RESULT_JSON: dict[str, Any] = {
    "recipe": {"name": "int8", "description": "", "steps": []},
    "network": "camera",
    "weights": "7992969a7888c24b",
    "size": [320, 320],
    "taxonomy": {
        "name": "toy",
        "categories": [{"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]}],
    },
    "postprocessing": {
        "threshold": 0.5, "window": 7, "top_k": 100, "min_thing_area": 64, "min_stuff_area": 2048,
        "grid": "input", "min_thing_score": 0.3,
    },
    "macs": 1306940800,
    "parameters": 3191085,
    "tools": {"panokit": "0.1.0"},
    "artifacts": {
        "tflite": {
            "file": "model.tflite",
            "bytes": 3590000,
            "precision": "int8",
            "arena_bytes": 3072000,
            "runtime": "litert",
            "sqnr_db": {"semantic": 31.25, "center": 33.5, "offset": 22.0},
            "sqnr_photos": ["b.jpg", "c.jpg"],
            "quality": {
                "split": "all 1 photos of val",
                "pq": {"all": 50.0, "things": 50.0, "stuff": None, "per_class": {"person": CLASS}},
                "miou": 0.4,
                "person_iou": 0.5,
                "person_boundary_iou": 0.25,
                "panoptic_map": {"miou": 0.3, "person_iou": 0.45, "person_boundary_iou": 0.2},
                "photos": 1,
                "intervals": {"pq_all": [40.0, 60.0], "person_pq": None},
                "complete": 1.0,
                "per_photo": [PHOTO],
            },
            "latency": {
                "1": {
                    "name": "int8", "threads": 1, "median_ms": 7.25, "quartiles_ms": [7.0, 7.5],
                    "runs": 5, "megapixels": 0.1024, "ms_per_megapixel": 70.8, "ratio": 0.5,
                },
            },
        },
        "coreml": {
            "file": "Model.mlpackage", "bytes": 100, "precision": "float16",
            "runtime": "coreml-interpreter",
        },
    },
    "key": "47b82bc1594ac0dae14f",
}  # fmt: skip
