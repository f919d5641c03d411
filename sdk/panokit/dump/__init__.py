"""Device dumps: what a phone (or LiteRT here) computed for one photo, stage by stage.

Tensors, any subset: ``photo`` uint8 ``[h0,w0,3]`` (upright sRGB), ``input`` ``[H,W,3]``,
``semantic`` / ``center`` / ``offset`` raw heads ``[h,w,C]`` in the artifact's own type (quantised
ones stay so), ``panoptic`` ids ``[H,W]`` on the decode grid, ``effect.<name>`` uint8
``[h0,w0,3]``. Metadata: text by the names in :data:`METADATA`, and ``segments``, ``transform``,
``effects`` as JSON. One file per photo: safetensors, npz, or raw numbers beside JSON; see
``docs/dump.md``.
"""

from panokit.dump.model import FORMAT, HEADS, METADATA, STAGES, Dump, dump_stages
from panokit.dump.read import SUFFIXES, read_dump
from panokit.dump.write import write_dump

__all__ = [
    "FORMAT",
    "HEADS",
    "METADATA",
    "STAGES",
    "SUFFIXES",
    "Dump",
    "dump_stages",
    "read_dump",
    "write_dump",
]
