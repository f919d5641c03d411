"""Write the bank of faults into docs/diagnosis.md, from the bank itself.

python scripts/make_bank_table.py
"""

from __future__ import annotations

from pathlib import Path

from panokit._files import write_text
from panokit_validation.faults import FAULTS

PAGE = Path(__file__).parent.parent / "docs" / "diagnosis.md"
BEGIN, END = "<!-- bank: begin -->", "<!-- bank: end -->"
ONLY = {"any": "", "integer": " (quantised artifacts)", "float": " (float artifacts)"}


def with_bank(text: str) -> str:
    """The page with the bank as it is now between its marks."""
    before, _, rest = text.partition(BEGIN)
    lines = ["| name | what | stage | variants | advice |", "|---|---|---|---|---|"]
    for f in FAULTS.values():
        labels = ", ".join(v.label for v in f.variants if v.label)
        title = f"{f.title}{ONLY[f.precision]}"
        lines.append(f"| `{f.name}` | {title} | {f.step.stage} | {labels} | {f.advice} |")
    table = "\n".join(lines)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Bring the page up to date."""
    write_text(PAGE, with_bank(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
