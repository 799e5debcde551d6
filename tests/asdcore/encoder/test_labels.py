import pandas as pd

from asdcore.encoder.labels import FEWEST, Labelling


def table(*rows: tuple[str, str, int]) -> pd.DataFrame:
    """``count`` recordings a0, a1, ... of each (machine, attributes, count)."""
    made = [(machine, attributes) for machine, attributes, count in rows for _ in range(count)]
    frame = pd.DataFrame(made, columns=["machine", "attributes"])
    return frame.assign(recording=[f"a{i}" for i in range(len(frame))])


SLOW, FAST = '{"speed": "1"}', '{"speed": "2"}'


def test_originals_come_first_and_only_a_pitch_shift_is_another_sound() -> None:
    labelling = Labelling(table(("fan", SLOW, 4), ("fan", FAST, 4), ("valve", SLOW, 4)))
    variants = ["pitch_down", "pitch_up", "noise_1", "mask_1000"]
    labels = labelling.labels(["a0", "a8", "a4", "a1"], variants)
    assert labels.machine.tolist() == [0, 1, 0, 0] * 2
    assert labels.shift.tolist() == [0, 0, 0, 0, -1, 1, 0, 0]
    same = labels.condition[:, None] == labels.condition
    assert same[0].tolist() == [True, False, False, True] * 2  # The valve is as slow, and another machine.
    assert len(labelling.conditions) == 3


def test_a_condition_of_too_few_recordings_is_the_machine_alone() -> None:
    labelling = Labelling(table(("fan", SLOW, FEWEST), ("fan", FAST, FEWEST - 1), ("fan", "{}", 1)))
    few = labelling.labels(["a0", f"a{FEWEST}", f"a{2 * FEWEST - 1}"], ["noise_1"] * 3)
    assert len(set(few.condition[:3].tolist())) == 2
    assert few.condition[1] == few.condition[2] != few.condition[0]


def test_where_every_recording_has_attributes_of_its_own_the_class_is_the_machine() -> None:
    rows = [("fan", f'{{"number": "{i}"}}', 1) for i in range(20)]
    assert len(Labelling(table(*rows)).conditions) == 1


def test_the_order_of_the_recordings_does_not_matter() -> None:
    rows = table(("valve", SLOW, 4), ("fan", FAST, 4), ("fan", SLOW, 5))
    one, other = Labelling(rows), Labelling(rows[::-1])
    assert one.conditions == other.conditions
    assert one.machines == other.machines == ["fan", "valve"]
