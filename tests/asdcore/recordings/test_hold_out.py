import hashlib

import pandas as pd

from asdcore.recordings.training import ENOUGH_TO_HOLD_OUT, HELD_OUT, hold_out, training_recordings


def table(machine: str, n: int, split: str = "train", label: str = "normal") -> pd.DataFrame:
    digests = [hashlib.sha256(f"{machine} {split} {label} {i}".encode()).hexdigest() for i in range(n)]
    return pd.DataFrame({"recording": digests, "machine": machine, "split": split, "label": label, "session": ""})


def test_about_a_tenth_of_the_normal_recordings_never_trains_and_stays_the_same_when_more_come() -> None:
    few, more = hold_out(table("fan", 400), 0.1), hold_out(table("fan", 800), 0.1)
    held_out = set(few.loc[few["split"] == HELD_OUT, "recording"])
    assert 20 < len(held_out) < 60
    assert len(training_recordings(few)) == 400 - len(held_out)
    assert held_out < set(more.loc[more["split"] == HELD_OUT, "recording"])


def test_machines_with_labelled_anomalies_or_few_recordings_keep_all_of_them() -> None:
    labelled = pd.concat([table("fan", 400), table("fan", 1, "test", "anomaly")], ignore_index=True)
    assert HELD_OUT not in set(hold_out(labelled, 0.1)["split"])
    assert HELD_OUT not in set(hold_out(table("pump", ENOUGH_TO_HOLD_OUT - 1), 0.4)["split"])
    assert HELD_OUT in set(hold_out(table("pump", ENOUGH_TO_HOLD_OUT), 0.4)["split"])
    assert HELD_OUT not in set(hold_out(table("pump", 400), 0.0)["split"])


def test_only_normal_training_recordings_are_held_out() -> None:
    others = [table("fan", 60), table("fan", 60, "test", "normal"), table("fan", 60, "train", "unknown")]
    mixed = hold_out(pd.concat(others, ignore_index=True), 0.4)
    of = mixed[mixed["split"] == HELD_OUT]
    assert len(of) and set(of["label"]) == {"normal"} and set(of["recording"]) < set(others[0]["recording"])
