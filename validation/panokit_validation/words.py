"""Verdicts in plain words: for people who did not write the app, and for its programmers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panokit_validation.faults import FAULTS
from panokit_validation.faults.model import Step

__all__ = ["GLOSSARY", "owner_of", "owner_of_cause", "sentence_of"]

GLOSSARY = {
    "dump": "what a device computed for one photo, stage by stage, in a file",
    "stage": "a step from photo to map: photo, input, the three heads, panoptic, effects",
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

SURE = 0.9
"""The share of a difference below which a cause that is no fact is told as a guess."""

_OWNERS = {
    "photo": "the code that prepares the picture (camera, resize, colours)",
    "input": "the code that prepares the picture (camera, resize, colours)",
    "heads": "the code that runs the network (runtime, delegate, buffers)",
    "panoptic": "the decoding code",
    "effect": "the effects code",
}


def owner_of_cause(cause: Mapping[str, Any]) -> str:
    """Whose code has to be mended: where the mistake is made, which may lie before the stage that
    shows it. (A result of another photo may come in anywhere.)"""
    fault = FAULTS.get(cause["name"])
    if fault is None or fault.step is Step.PHOTO:
        return owner_of(cause["stage"])
    return owner_of(fault.step.stage)


def owner_of(stage: str) -> str:
    """Whose code a stage is."""
    return _OWNERS.get(stage.partition(".")[0], _OWNERS["heads"])


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
    names = (cause["name"], *cause.get("together", ()))
    first: dict[str, Mapping[str, Any]] = {}
    for found in photo["causes"]:
        if found["alarm"] and found["name"] in names:
            first.setdefault(found["name"], found)
    causes = list(first.values())
    title = " and ".join(c["title"] for c in causes)
    together = " Both together explain it." if len(causes) > 1 else ""
    if not cause.get("certain") and cause.get("explained", 1.0) < SURE:
        title = f"probably: {title}"
    owners = " and ".join(dict.fromkeys(owner_of_cause(c) for c in causes))
    advice = " ".join(dict.fromkeys(c["advice"] for c in causes))
    known = [f"panokit explain {c['name']}" for c in causes if c["name"] in FAULTS]
    more = f" More: {', '.join(known)}." if known else ""
    return f"{title[:1].upper()}{title[1:]}.{together} This is for {owners}. {advice}{more}"
