"""The bank of faults: how apps get panoptic segmentation wrong, each defined once.

A fault is a change of one step of the app's pipeline. The simulator injects it, the diagnosis
replays it.
"""

from panokit_validation.faults.bank import FAULTS, fault, fault_names
from panokit_validation.faults.model import Fault, Step, Variant

__all__ = ["FAULTS", "Fault", "Step", "Variant", "fault", "fault_names"]
