"""Codecs and bands: which recordings can be compared with those that a machine was fitted on.

A lossy codec removes and adds sound, and a lower sample rate removes it: to a detector that was fitted without them,
every normal recording sounds strange. See the measurements in docs/how-to/plant.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.arrays import Arrays

NAMES = {
    "MPEG_LAYER_I": "MPEG layer 1",
    "MPEG_LAYER_II": "MPEG layer 2",
    "MPEG_LAYER_III": "MP3",
    "VORBIS": "Vorbis",
    "OPUS": "Opus",
    "GSM610": "GSM 6.10",
    "IMA_ADPCM": "IMA ADPCM",
    "MS_ADPCM": "MS ADPCM",
    "PCM_S8": "8 bit",
    "PCM_U8": "8 bit",
}
"""Names of codecs, by libsndfile's subtype; other subtypes keep libsndfile's name."""
LOSSLESS = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_", "DWVW_")
"""Prefixes of subtypes that make no difference to a detector, such as mu-law and A-law, but not 8 bits."""

NOT_COMPARED = ("lossy: ", "lossless: ", "another band: ")
"""Prefixes of the reasons for not judging a usable recording, see `Formats.objection`."""


def codec_of(subtype: str) -> str:
    """The name of a lossy codec; empty for the others. ``subtype``: as libsndfile names it.

    >>> codec_of("MPEG_LAYER_III"), codec_of("G721_32"), codec_of("PCM_16")
    ('MP3', 'G721 32', '')
    """
    return "" if subtype.startswith(LOSSLESS) else NAMES.get(subtype, subtype.replace("_", " "))


@dataclass(frozen=True)
class Formats:
    """The codecs and sample rates of the recordings that a machine was fitted on."""

    codecs: tuple[str, ...]
    """as `codec_of` gives them"""
    lowest: int
    """Hz, of the files"""
    highest: int
    """Hz, of the files"""

    @classmethod
    def of(cls, recordings: pd.DataFrame) -> "Formats | None":
        """Those of rows of the table of recordings; None if their sample rates are unknown."""
        if "sample_rate" not in recordings or recordings["sample_rate"].isna().any():
            return None
        rates = recordings["sample_rate"]
        return cls(tuple(sorted(set(codecs_of(recordings)))), int(rates.min()), int(rates.max()))

    def to_arrays(self) -> Arrays:
        """As it is written with the model of a machine."""
        return {"codecs": np.array(self.codecs, dtype=str), "rates": np.array([self.lowest, self.highest])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Formats | None":
        """What `to_arrays` wrote; None where it did not."""
        if "codecs" not in arrays:
            return None
        lowest, highest = arrays["rates"].tolist()
        return cls(tuple(arrays["codecs"].tolist()), lowest, highest)

    def objection(self, codec: str, sample_rate: int, resampled_to: int) -> str:
        """Why a recording cannot be compared with them; empty if it can.

        Args:
            codec: of the recording, as `codec_of` gives it.
            sample_rate: of the recording, Hz.
            resampled_to: Hz, all recordings.
        """
        if codec not in self.codecs:
            known = " and ".join(name or "lossless ones" for name in self.codecs)
            what = f"lossy: {codec}" if codec else "lossless"
            return f"{what}: not compared with recordings of another codec; this machine was fitted on {known}"
        band, lowest, highest = (min(rate, resampled_to) for rate in (sample_rate, self.lowest, self.highest))
        if not lowest <= band <= highest:
            known = f"{self.lowest}" if self.lowest == self.highest else f"{self.lowest} to {self.highest}"
            return (
                f"another band: recorded at {sample_rate} Hz, which is sound up to {sample_rate // 2} Hz; this machine "
                f"was fitted on recordings of {known} Hz"
            )
        return ""


def codecs_of(recordings: pd.DataFrame) -> pd.Series:
    """The codec of each row; tables of older versions lack it, and count as lossless."""
    if "codec" not in recordings:
        return pd.Series("", index=recordings.index, dtype=object)
    return recordings["codec"].astype(object).where(recordings["codec"].notna(), "")


def of_one_codec(recordings: pd.DataFrame) -> pd.DataFrame:
    """The rows of the codec that most rows of their machine have; of as many, none, and else the first by name.

    A single one of another codec, lossless or not, must not take a machine all the others that it is fitted on.
    """
    codecs = codecs_of(recordings)
    counts = (
        codecs.groupby([recordings["machine"], codecs]).size().rename_axis(["machine", "codec"]).reset_index(name="n")
    )
    most = counts.sort_values(["n", "codec"], ascending=[False, True]).drop_duplicates("machine")
    return recordings[codecs == recordings["machine"].map(dict(zip(most["machine"], most["codec"], strict=True)))]
