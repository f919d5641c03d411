"""`panokit explain`: what a word, an error, a fault, a lint rule or a recipe means."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from panokit.cli.console import say
from panokit.topics import find_topic, topics

__all__ = ["explain"]


def explain(
    topic: Annotated[
        str,
        typer.Argument(metavar="[TOPIC]", help="Its name. Without one, all that there are."),
    ] = "",
) -> None:
    """Say what a fault, a lint rule, a recipe, an error or a word means, and what to do about it.

    Example: panokit explain bgr
    """
    if topic:
        found = find_topic(topic)
        say(f"{found.name} ({found.kind})")
        for paragraph in found.text.split("\n\n"):
            say(paragraph)
        say(f"in the manual: {found.page}")
        return
    for kind, group in groupby(topics(), key=lambda t: t.kind):
        say(f"{kind}: {', '.join(t.name for t in group)}")
