"""Run the tutorials, and write the pictures that they show.

python scripts/make_tutorial_pictures.py [PAGE …]   # start, tutorials/qa, …; without any, all
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.toys.tutorials import PAGES, picture, pictures_of, run_page  # noqa: E402


def main(names: list[str]) -> None:
    """Run the pages, and write their pictures."""
    for name in names or PAGES:
        page = ROOT / "docs" / f"{name}.md"
        with tempfile.TemporaryDirectory() as folder:
            run_page(page, Path(folder))
            for file, shown in pictures_of(page):
                shown.parent.mkdir(parents=True, exist_ok=True)
                picture(Path(folder) / file).save(shown, quality=75, method=6)
                sys.stderr.write(f"{name}: {shown.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
