"""The faults of the bank, for ``panokit explain``."""

from __future__ import annotations

from panokit.topics import Topic
from panokit_validation.faults import FAULTS

__all__ = ["faults"]

_ONLY = {"any": "", "integer": " Only quantised artifacts can have it.",
         "float": " Only float artifacts can have it."}  # fmt: skip


def faults() -> list[Topic]:
    """A topic for each fault: what it is, where it is seen, what to do."""
    found = []
    for fault in FAULTS.values():
        forms = [v.label for v in fault.variants if v.label]
        text = (
            f"{fault.title[0].upper()}{fault.title[1:]}. It is first seen at the stage "
            f"{fault.step.stage}.{_ONLY[fault.precision]}\n\nWhat to do: {fault.advice}"
        )
        if forms:
            text += f"\n\nForms: {', '.join(forms)}."
        text += f"\n\nTry it: panokit simulate photos/ --fault {fault.name} --out dumps/"
        found.append(Topic(fault.name, "fault", text, f"faults/{fault.name}.html"))
    return found
