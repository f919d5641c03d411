"""Networks that are opened once for many dumps."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from panokit.bundle import Artifact
from panokit.segmenter import Segmenter
from panokit_validation.device import DeviceNoise, Network

__all__ = ["Workbench"]

_BENCHES: WeakKeyDictionary[Segmenter, Workbench] = WeakKeyDictionary()


class Workbench:
    """A segmenter's artifact with the runtime's fast and its plain kernels, and the other
    artifacts of the bundle that run here."""

    def __init__(self, segmenter: Segmenter) -> None:
        # Not the segmenter itself: the table of benches must not keep it alive. What a network
        # needs of it is taken when the network is made.
        self._networks: dict[tuple[str, bool], Network] = {}
        network = Network(segmenter)
        self._networks[(segmenter.artifact.name, True)] = network

    @classmethod
    def of(cls, segmenter: Segmenter) -> Workbench:
        """The bench of a segmenter, made when it is first asked for."""
        if segmenter not in _BENCHES:
            _BENCHES[segmenter] = cls(segmenter)
        return _BENCHES[segmenter]

    def network(
        self, segmenter: Segmenter, artifact: Artifact | None = None, *, fast: bool = True
    ) -> Network:
        """The network of an artifact (the segmenter's own without one)."""
        artifact = artifact or segmenter.artifact
        key = (artifact.name, fast)
        if key not in self._networks:
            noise = DeviceNoise() if fast else DeviceNoise(xnnpack=False)
            self._networks[key] = Network(segmenter, artifact, noise)
        return self._networks[key]
