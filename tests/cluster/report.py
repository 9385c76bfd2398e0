"""What the run measured: rows of a table, written to tests/cluster/report.txt (which git ignores) and to the terminal."""

from dataclasses import dataclass, field
from pathlib import Path

PATH = Path(__file__).with_name("report.txt")


@dataclass
class Report:
    """The rows of one run, in the order in which they came."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, value: str, wanted: str = "") -> None:
        """One row. `wanted` is what the specification asks for, in its words; the reader compares."""
        self.rows.append((what, value, wanted))
        PATH.write_text("\n".join(self.lines()) + "\n")

    def seconds(self, what: str, seconds: float, wanted: str = "") -> None:
        """One row with a duration."""
        self.add(what, f"{seconds:.1f} s", wanted)

    def lines(self) -> list[str]:
        """The table as text."""
        width = max((len(what) for what, _, _ in self.rows), default=0)
        return [
            f"{what:<{width}}  {value}" + (f"   (asked for: {wanted})" if wanted else "")
            for what, value, wanted in self.rows
        ]
