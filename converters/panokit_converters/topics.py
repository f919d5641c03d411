"""The rules of the lint, for ``panokit explain``."""

from __future__ import annotations

from panokit.topics import Topic
from panokit_converters.lint_rules import RULES

__all__ = ["lint_rules"]

_PLACES = {"kinds": "…", "where": "beyond, or near to,", "photos": "up to four"}


def lint_rules() -> list[Topic]:
    """A topic for each rule: why it hurts, what to do, who says so."""
    found = []
    for rule in RULES.values():
        why = rule.message.format(**_PLACES)
        text = (
            f"{why[0].upper()}{why[1:]} ({rule.severity}).\n\nWhat to do: {rule.advice}."
            f"\n\nSource: {rule.source.format(**_PLACES)}"
        )
        found.append(Topic(rule.name, "lint rule", text, f"lint/{rule.name}.html"))
    return found
