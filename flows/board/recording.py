"""The page of a recording: to listen to it beside the most similar normal one, and to label it."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from asdcore.errors import AsdError
from asdcore.heard import clock
from asdcore.normality.odds import odds
from asdcore.reports.known import Known
from asdcore.reports.page import NO_REAL_MACHINE
from flows.board.machines import champion_of, rows_of
from tasks.board import Records

if TYPE_CHECKING:
    from asdcore.reports.comparison import Compared

MOST_KEPT = 16
"""comparisons: each takes about a second and a megabyte"""


class Comparisons:
    """Recordings beside the most similar normal ones, by the champion; one is computed at a time."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, str], Compared] = OrderedDict()

    def of(self, row: dict[str, Any]) -> "Compared":
        """The comparison of a scored recording; where it cannot be made, nothing but the reason.

        Args:
            row: of `Records.recordings`.
        """
        from asdcore.reports.comparison import Compared  # Only here: it imports PyTorch.

        with self._lock:
            try:
                key = row["recording"], self.records.detector()[1]
                if key not in self._kept:
                    self._kept[key] = self._compared(row)
            except AsdError as error:
                return Compared(missing=f"It cannot be shown: {error}.")
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]

    def _compared(self, row: dict[str, Any]) -> "Compared":
        from asdcore.reports.comparison import compared_again

        detector, _ = self.records.detector()
        return compared_again(detector, row, Known(self.records.catalog()).training_files())


def recording_page(records: Records, comparisons: Comparisons, digest: str) -> dict[str, Any] | None:
    """What the page of a recording shows; None if no recording with this digest was ever scored."""
    recordings = records.recordings()
    found = rows_of(recordings[recordings["recording"] == digest].tail(1)) if digest else []
    if not found:
        return None
    (row,) = found
    champion, problems = champion_of(records)
    verdicts = rows_of(records.verdicts(digest).iloc[::-1])
    return {
        "problems": problems,
        "champion": champion,
        "row": row,
        "name": Path(row["path"]).name,
        "odds": odds(row["p_value"], row["verdict"]) if row["p_value"] is not None else "",
        "at": f"at {clock(row['strangest_at'] or 0)}, of {row['clips']} clips" if (row["clips"] or 1) > 1 else "",
        "both": comparisons.of(row),
        "verdicts": verdicts,
        "simulated": NO_REAL_MACHINE if row["simulated"] else "",
    }
