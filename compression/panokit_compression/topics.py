"""The recipes that come with Panokit, for ``panokit explain``."""

from __future__ import annotations

from panokit.topics import Topic
from panokit_compression.recipes import load_recipe, recipe_names

__all__ = ["recipes"]


def recipes() -> list[Topic]:
    """A topic for each recipe: what it does, and its steps."""
    found = []
    for name in recipe_names():
        recipe = load_recipe(name)
        steps = ", ".join(step.kind for step in recipe.steps) or "none"
        text = f"{recipe.description}\n\nSteps: {steps}."
        found.append(Topic(name, "recipe", text, "compression.html"))
    return found
