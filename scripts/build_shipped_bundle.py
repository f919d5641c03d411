"""Rebuild the bundle that ships inside the SDK from the committed weights (`make bundle`).

The shipped bundle holds the int8 TFLite artifact alone, so that the SDK stays small; calibration
uses the photo set's training photos if it is there, else the sample photos, and the manifest says
which.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from panokit._files import write_json
from panokit.bundle import MANIFEST
from panokit_network.weights import shipped_weights_path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Build it in place (or at --out)."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT / "sdk" / "panokit" / "assets" / "camera.panokit"
    parser.add_argument("--out", type=Path, default=default)
    data = ROOT.parent / "shared" / "data" / "camera-panoptic"
    parser.add_argument("--calibration-data", type=Path, default=data)
    given = parser.parse_args()
    arguments = [
        "export", "--weights", str(shipped_weights_path()), "--recipe", "int8",
        "--formats", "tflite", "--out", str(given.out),
    ]  # fmt: skip
    if given.calibration_data.is_dir():
        arguments += ["--calibration-data", str(given.calibration_data)]
    program = Path(sys.executable).with_name("panokit")
    code = subprocess.run([str(program), *arguments], check=False).returncode
    if not code:
        without_photos(given.out)
    sys.exit(code)


def without_photos(bundle: Path) -> None:
    """Leave out the photos of the golden vectors: they come with packages that are installed."""
    path = bundle / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for vector in manifest["vectors"]:
        if vector.get("photo"):
            (bundle / vector["photo"]).unlink(missing_ok=True)
            vector["photo"] = vector["photo_sha256"] = ""
    write_json(path, manifest)


if __name__ == "__main__":
    main()
