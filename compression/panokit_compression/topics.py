"""The recipes that come with Panokit, for ``panokit explain``."""

from __future__ import annotations

import json
from importlib import resources

from panokit.topics import Topic

__all__ = ["recipes"]


def recipes() -> list[Topic]:
    """A topic for each recipe: what it does, and its steps."""
    found = []
    for file in resources.files("panokit_compression.recipes").iterdir():
        if file.name.endswith(".json"):
            told = json.loads(file.read_text("utf-8"))
            steps = ", ".join(step["kind"] for step in told["steps"]) or "none"
            name = file.name.removesuffix(".json")
            text = f"{told['description']}\n\nSteps: {steps}."
            found.append(Topic(name, "recipe", text, "compression.html"))
    return found
