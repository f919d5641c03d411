"""Verdicts in plain words: for people who did not write the app, and for its programmers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panokit_validation.faults import FAULTS

__all__ = ["GLOSSARY", "owner_of", "sentence_of"]

GLOSSARY = {
    "dump": "what a device computed for one photo, stage by stage, in a file",
    "stage": "a step from photo to map: input, the three heads, panoptic, effects",
    "reference": "what Panokit computes from the same numbers",
    "head": "an output of the network: semantic, center, offset",
    "tie": "a decision that float32 cannot tell; both answers are right, if the whole map stands "
    "by one of them",
    "rounding": "a decision that half precision or other kernels may take the other way",
    "error": "a pixel that follows from the heads by no set of such decisions",
    "void": "pixels that belong to no segment",
    "PQ": "panoptic quality: how well the segments of two maps match, 0 to 100",
    "cause": "the known mistake of apps that explains the difference, and how much of it",
}
"""The words of the page."""

_OWNERS = {
    "input": "the code that prepares the picture (camera, resize, colours)",
    "heads": "the code that runs the network (runtime, delegate, buffers)",
    "panoptic": "the decoding code",
    "effect": "the effects code",
}


def owner_of(stage: str) -> str:
    """Whose code a stage is."""
    group = stage.partition(".")[0]
    group = group if group in ("photo", "input", "panoptic", "effect") else "heads"
    return _OWNERS.get(group, "the app")


def sentence_of(photo: Mapping[str, Any]) -> str:
    """A verdict as JSON in one or two sentences: what happened and who can mend it."""
    if photo["verdict"] == "pass":
        return "The device computes what the reference computes."
    if photo["verdict"] == "pass with rounding":
        return "The device agrees with the reference but for rounding. Nothing to mend."
    stage = photo["first_bad_stage"]
    cause = next((c for c in photo["causes"] if c["alarm"]), None)
    if cause is None or cause["name"] == "unknown":
        return (
            f"The device differs from the reference first at {stage}, and no known mistake "
            f"explains it. Show it to the people of {owner_of(stage)}."
        )
    title = cause["title"][:1].upper() + cause["title"][1:]
    more = f" More: panokit explain {cause['name']}." if cause["name"] in FAULTS else ""
    return f"{title}. This is for {owner_of(cause['stage'])}. {cause['advice']}{more}"
