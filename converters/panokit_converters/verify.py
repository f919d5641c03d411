"""Does every artifact of a bundle still compute what it should? Without torch.

Each artifact is held against two things. Its *golden vectors* say what it computed when it was
exported: a damaged runtime, another processor or a changed file shows here. A *float reference*,
the bundle's float32 artifact, says what it should compute: heads are compared on photos, then
decoded, and the panoptic maps compared too. At export torch is the reference; the arithmetic is
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.agreement import AgreementMeter, HeadAgreement
from panokit.bundle import Artifact, Bundle
from panokit.dump import read_dump
from panokit.errors import ArgumentError, BundleError, MissingExtraError, PanokitError
from panokit.photo import Photo
from panokit.preprocessing import preprocess
from panokit.runtime import Runtime
from panokit_converters.agreement import Agreement
from panokit_converters.measure import (
    Inputs,
    Thresholds,
    judge,
    measure,
    prepare,
    thresholds_for,
)
from panokit_converters.runners import (
    NotRunHereError,
    channels_last,
    open_artifact,
    real_heads,
)

__all__ = [
    "ArtifactVerdict",
    "GoldenCheck",
    "float_reference",
    "verify_bundle",
]

Array = NDArray[Any]
Progress = Callable[[str], None]


_GOLDEN_DB = {"float32": 60.0, "float16": 40.0}
_GOLDEN_INTEGER_DB = 35.0  # one step here and there, as other processors round


@dataclass(frozen=True)
class GoldenCheck:
    """Golden vectors computed again: ``identical`` to the bit, or else the worst head's SQNR.
    ``other_input`` is a photo of theirs that becomes another input than at export."""

    vectors: int
    identical: bool
    worst_sqnr_db: float
    origin: str
    other_input: str = ""


@dataclass(frozen=True)
class ArtifactVerdict:
    """What was found of one artifact. ``failures`` are sentences; none means it passes, unless it
    was ``not_run`` at all (why, in a sentence): what is not installed here is no fault of the file.

    ``reference`` names what the ``agreement`` is with; both are None for the reference itself and
    where the bundle has none.
    """

    artifact: str
    precision: str
    runtime: str
    thresholds: Thresholds
    golden: GoldenCheck | None = None
    reference: str | None = None
    agreement: Agreement | None = None
    seconds_per_photo: float | None = None
    failures: tuple[str, ...] = ()
    not_run: str = ""

    @property
    def passed(self) -> bool:
        """It was run, and nothing failed."""
        return not self.failures and not self.not_run

    @property
    def outcome(self) -> str:
        """``"pass"``, ``"fail"`` or ``"not run"``."""
        return "fail" if self.failures else "not run" if self.not_run else "pass"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "artifact": self.artifact,
            "precision": self.precision,
            "verdict": self.outcome,
            "failures": list(self.failures),
            "not_run": self.not_run,
            "runtime": self.runtime,
            "golden": None if self.golden is None else asdict(self.golden),
            "reference": self.reference,
            "agreement": None if self.agreement is None else self.agreement.to_json(),
            "thresholds": self.thresholds.to_json(),
            "seconds_per_photo": self.seconds_per_photo,
        }


def verify_bundle(
    bundle: Bundle,
    photos: Mapping[str, Photo] | None = None,
    *,
    reference: tuple[Bundle, Artifact] | None = None,
    artifacts: Iterable[str] | None = None,
    threads: int = 2,
    progress: Progress | None = None,
) -> tuple[ArtifactVerdict, ...]:
    """Verify the artifacts of a bundle (all, or those named). A reference that does not reproduce
    its own golden vectors is not used as one.

    ``photos`` by name; without any only golden vectors are checked. ``reference`` is an artifact
    of this or of another bundle with the same input and taxonomy; by default the bundle's own
    float32 one. ``threads`` are the runtime's.
    """
    say = progress or (lambda text: None)
    manifest = bundle.manifest
    wanted = [manifest.artifact(n) for n in artifacts] if artifacts else list(manifest.artifacts)
    reference = reference or float_reference(bundle)
    inputs = prepare(photos, manifest.preprocessing) if photos else {}
    truth: dict[str, dict[str, NDArray[np.float32]]] = {}
    if reference is not None and inputs:
        _check_reference(bundle, *reference)
    if reference is not None and inputs and _is_sound(*reference, threads):
        say(f"running the reference {reference[1].name}")
        runtime = open_artifact(*reference, threads)
        truth = {
            n: real_heads(runtime.run(image), reference[1]) for n, (image, _) in inputs.items()
        }
    verdicts = []
    for artifact in wanted:
        say(f"verifying {artifact.name}")
        is_reference = reference is not None and reference[1] == artifact
        heads = {} if is_reference else truth
        verdicts.append(_verify(bundle, artifact, inputs, heads, reference, threads))
    return tuple(verdicts)


def float_reference(bundle: Bundle) -> tuple[Bundle, Artifact] | None:
    """The bundle's float32 artifact: TFLite before ONNX before Core ML."""
    floats = [a for a in bundle.manifest.artifacts if a.precision == "float32"]
    order = ("tflite", "onnx", "coreml")
    floats.sort(key=lambda a: order.index(a.format) if a.format in order else len(order))
    return (bundle, floats[0]) if floats else None


def _is_sound(bundle: Bundle, artifact: Artifact, threads: int) -> bool:
    """Whether a reference still computes what it did at its export: else it judges nobody."""
    try:
        golden = _golden(bundle, artifact, open_artifact(bundle, artifact, threads))
    except PanokitError:
        return False
    return not _golden_failures(golden, artifact)


def _check_reference(bundle: Bundle, other: Bundle, artifact: Artifact) -> None:
    ours, theirs = bundle.manifest, other.manifest
    if ours.preprocessing != theirs.preprocessing or ours.taxonomy != theirs.taxonomy:
        expected = "an artifact of a bundle with the same taxonomy and input size"
        raise ArgumentError(
            "reference",
            f"the reference is {artifact.name} of {other.root.name}; expected {expected}",
        )


def _verify(
    bundle: Bundle,
    artifact: Artifact,
    inputs: Inputs,
    truth: Mapping[str, Mapping[str, Array]],
    reference: tuple[Bundle, Artifact] | None,
    threads: int,
) -> ArtifactVerdict:
    thresholds = thresholds_for(artifact, bundle.manifest)
    failures: list[str] = []
    golden = measured = None
    name = "none"
    try:
        runtime = open_artifact(bundle, artifact, threads)
        name = runtime.name
        golden = _golden(bundle, artifact, runtime)
        failures += _golden_failures(golden, artifact)
        if truth:
            measured = measure(runtime, artifact, bundle.manifest, inputs, truth)
            failures += judge(measured.agreement, thresholds, artifact.precision)
    except (MissingExtraError, NotRunHereError) as error:
        return ArtifactVerdict(
            artifact.name, artifact.precision, name, thresholds, not_run=str(error)
        )
    except PanokitError as error:
        failures.append(f"cannot be run here: {error}")
    if golden is None and measured is None and not failures:
        failures.append("nothing to verify it with: no golden vectors and no float32 artifact")
    return ArtifactVerdict(
        artifact=artifact.name,
        precision=artifact.precision,
        runtime=name,
        thresholds=thresholds,
        golden=golden,
        reference=reference[1].name if measured is not None and reference is not None else None,
        agreement=None if measured is None else measured.agreement,
        seconds_per_photo=None if measured is None else round(measured.seconds, 4),
        failures=tuple(failures),
    )


def _golden(bundle: Bundle, artifact: Artifact, runtime: Runtime) -> GoldenCheck | None:
    """Compute an artifact's golden vectors again."""
    files = [v for v in bundle.manifest.vectors if v.artifact == artifact.name]
    identical, worst, origins = True, HeadAgreement(np.inf, 0, 0, 1), set()
    other = ""
    for vector in files:
        dump = read_dump(bundle.root / vector.file)
        heads = bundle.manifest.postprocessing.head_names()
        missing = [n for n in ("input", *heads) if n not in dump.tensors]
        if missing:
            raise BundleError(bundle.root / vector.file, f"a golden vector without {missing}")
        if vector.photo:
            photo = Photo.open(bundle.root / vector.photo)
            image, _ = preprocess(photo, bundle.manifest.preprocessing)
            if not np.array_equal(image, dump.tensors["input"]):
                other = other or vector.photo
        found = channels_last(runtime.run(dump.tensors["input"]), artifact)
        origins.add(vector.origin)
        for head in heads:
            stored = dump.tensors[head].reshape(found[head].shape)
            if np.array_equal(stored, found[head]):
                continue
            identical = False
            meter = AgreementMeter()
            meter.update(_centred(stored, artifact, head), _centred(found[head], artifact, head))
            worst = min(worst, meter.compute(), key=lambda figures: figures.sqnr_db)
    if not files:
        return None
    decibel = 200.0 if identical else round(worst.sqnr_db, 2)
    return GoldenCheck(len(files), identical, decibel, ", ".join(sorted(origins)), other)


def _centred(values: Array, artifact: Artifact, head: str) -> NDArray[np.float64]:
    return values.astype(np.float64) - (artifact.outputs[head].zero_point or 0)


def _golden_failures(golden: GoldenCheck | None, artifact: Artifact) -> list[str]:
    if golden is None:
        return []
    if golden.other_input:
        return [
            f"golden vectors: {golden.other_input} is preprocessed to another input than at export"
        ]
    integers = any(spec.scale is not None for spec in artifact.outputs.values())
    half = "float16" if artifact.precision != "float32" else "float32"
    least = _GOLDEN_INTEGER_DB if integers else _GOLDEN_DB[half]
    if golden.worst_sqnr_db >= least:
        return []
    return [
        f"golden vectors: expected the heads of its export ({golden.origin}) to within "
        f"{least:g} dB, got {golden.worst_sqnr_db:.1f} dB: the file or its runtime has changed"
    ]
