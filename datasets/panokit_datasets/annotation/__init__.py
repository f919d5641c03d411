"""Labelling photos by hand, from what a network proposes.

::

    operations  what a person does to the labels of a photo: relabel, merge, cut, paint, delete
    project     photos, their labels and what was done; nothing is lost when a program ends
    agreement   how far two people's labels agree
"""

from __future__ import annotations

from panokit_datasets.annotation.agreement import Agreement, measure_agreement
from panokit_datasets.annotation.operations import Labels, read_operation
from panokit_datasets.annotation.project import AnnotationProject

__all__ = ["Agreement", "AnnotationProject", "Labels", "measure_agreement", "read_operation"]
