"""A network source as one of a contract: the stage between opening a network and using it."""

from __future__ import annotations

from dataclasses import replace

from panokit.preprocessing import sides
from panokit_converters.adapt import ContractModule, KnownOfModule, adapt
from panokit_network.source import NetworkSource

__all__ = ["adapted_source"]

SIZE_STEP = 32  # our network's largest stride


def adapted_source(
    source: NetworkSource, size_wh: tuple[int, int], known: KnownOfModule
) -> NetworkSource:
    """``source`` with its input and heads as its contract has them. Our own networks, and what was
    adapted before, stay as they are. How a user's heads were found goes into the remarks."""
    if source.config is not None:
        sides(size_wh, SIZE_STEP)
    if source.config is not None or isinstance(source.module, ContractModule):
        if known.decoding is not None:
            return replace(source, postprocessing=known.decoding)
        return source
    found = adapt(source.module, size_wh, known)
    told = known.decoding is not None or not isinstance(found.decoding, type(source.postprocessing))
    remarks = source.remarks
    if found.module is not source.module:
        remarks = (*remarks, f"the network is taken for {found.family}: {found.why}")
    things = [c.name for c in source.taxonomy if c.is_thing]
    if things and found.decoding.contract == "semantic":
        named = ", ".join(things[:5]) + (", …" if len(things) > 5 else "")
        said = f"it gives classes alone: of {named} all in a photo become one segment each"
        remarks = (*remarks, said)
    return replace(
        source,
        module=found.module,
        postprocessing=found.decoding if told else source.postprocessing,
        preprocessing=found.preprocessing,
        remarks=remarks,
    )
