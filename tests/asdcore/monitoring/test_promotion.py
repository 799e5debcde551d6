import numpy as np
import pandas as pd

from asdcore.monitoring.learned import Learned
from asdcore.monitoring.promotion import Judgement, judge
from asdcore.settings import GateSettings

GATE = GateSettings(margin=0.05)


def scored(
    separation: dict[str, float], n: int = 60, alarms: dict[str, int] | None = None, seed: int = 0, noise: float = 0.2
) -> pd.DataFrame:
    """Scores of machines whose anomalies lie so many standard deviations above their normals; noise by seed."""
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    tables = []
    for machine, distance in separation.items():
        label = np.repeat(["normal", "anomaly"], n)
        score = common.normal(size=2 * n) + noise * own.normal(size=2 * n) + distance * (label == "anomaly")
        decision = np.zeros(2 * n, dtype=int)
        decision[: (alarms or {}).get(machine, 0)] = 1
        tables.append(
            pd.DataFrame({"machine": machine, "label": label, "score": score, "decision": decision}).assign(
                recording=[f"{machine} {i}" for i in range(2 * n)], section="00", domain=["source", "target"] * n
            )
        )
    return pd.concat(tables, ignore_index=True)


def judged(champion: pd.DataFrame, challenger: pd.DataFrame, lost: tuple[str, ...] = ()) -> Judgement:
    return judge(champion, challenger, GATE, dict.fromkeys(champion["machine"], 0.01), lost)


ALIKE = {"fan": 1.5, "pump": 1.5, "valve": 1.5}


def test_a_challenger_that_is_as_good_is_promoted_and_the_metrics_say_so() -> None:
    judgement = judged(scored(ALIKE), scored(ALIKE, seed=1))
    assert judgement.promote
    (reason,) = judgement.reasons
    assert "No machine got clearly worse" in reason and "360 recordings" in reason
    overall, *machines = judgement.compared
    assert overall.machine == "all" and [one.machine for one in machines] == ["fan", "pump", "valve"]
    assert overall.low < overall.challenger - overall.champion < overall.high


def test_a_better_one_is_promoted() -> None:
    judgement = judged(scored(ALIKE), scored({"fan": 2.5, "pump": 2.5, "valve": 1.6}))
    assert judgement.promote and judgement.compared[0].low > 0


def test_one_machine_that_got_clearly_worse_blocks_a_challenger_that_is_better_over_all() -> None:
    judgement = judged(scored(ALIKE), scored({"fan": 3.0, "pump": 0.3, "valve": 3.0}))
    assert judgement.compared[0].challenger - judgement.compared[0].champion > -0.05
    assert not judgement.promote
    assert judgement.reasons[0].startswith("pump got worse")
    assert not any("fan" in reason for reason in judgement.reasons)


def test_a_worse_one_is_refused_over_all() -> None:
    judgement = judged(scored(ALIKE), scored({"fan": 1.1, "pump": 1.1, "valve": 1.1}))
    assert not judgement.promote
    assert any("may be worse by more than 5 points" in reason for reason in judgement.reasons)


def test_few_recordings_cannot_tell_and_it_says_so() -> None:
    judgement = judged(scored(ALIKE, n=8, noise=1.0, seed=3), scored(ALIKE, n=8, noise=1.0))
    assert not judgement.promote and "More labelled recordings would reduce" in judgement.reasons[-1]


def test_a_broken_promise_blocks_unless_the_champion_breaks_it_as_much() -> None:
    honest, alarming = scored(ALIKE), scored(ALIKE, alarms={"valve": 6}, seed=1)
    refused = judged(honest, alarming)
    assert not refused.promote
    assert refused.reasons == ["valve: 6 of 60 normal recordings called anomalous, 0 by the champion; 1 % are allowed."]
    assert judged(alarming, alarming).promote
    assert judged(honest, scored(ALIKE, alarms={"valve": 2}, seed=1)).promote  # 2 of 60 may be chance.


def test_a_lost_machine_blocks() -> None:
    judgement = judged(scored(ALIKE), scored(ALIKE), ("gearbox",))
    assert judgement.reasons == ["The challenger does not know gearbox, which the champion does."]
    assert not judgement.promote


def test_a_challenger_that_has_learned_what_the_champion_calls_anomalous_is_refused_however_well_it_does() -> None:
    better = scored({"fan": 2.5, "pump": 2.5, "valve": 2.5})
    rates = dict.fromkeys(ALIKE, 0.01)
    faults = Learned(26, 12, 1e-6, ["a.wav", "b.wav"])
    sabotaged = judge(scored(ALIKE), better, GATE, rates, learned={"fan": Learned(40, 0, 0.4), "pump": faults})
    assert not sabotaged.promote
    (reason,) = sabotaged.reasons
    assert (
        reason.startswith("pump: of the 26 recordings newly labelled normal")
        and "calls 12 suspect or anomalous" in reason
    )
    assert "Listen to them (a.wav, b.wav first)" in reason and "`asd promote`" in reason
    unchanged = {"fan": Learned(40, 4, 0.2), "pump": Learned(0, 0, 1.0)}
    assert judge(scored(ALIKE), better, GATE, rates, learned=unchanged).promote
    # At a rate of its own of 60 %, the operator wants as many to be called.
    assert judge(scored(ALIKE), better, GATE, rates | {"pump": 0.6}, learned={"pump": Learned(26, 12, 0.2)}).promote


def test_faults_of_which_few_are_suspect_are_noticed_by_their_ranks() -> None:
    faults = Learned(12, 2, 0.0004, ["a.wav"])
    refused = judge(scored(ALIKE), scored(ALIKE), GATE, dict.fromkeys(ALIKE, 0.01), learned={"fan": faults})
    (reason,) = refused.reasons
    assert "fan: the 12 recordings newly labelled normal sound stranger to the champion" in reason
    assert "(p = 0.0004; it calls 2 suspect or anomalous)" in reason
    # One retraining in a hundred may be refused by chance, however many machines have learned something.
    assert faults.objection("fan", 0.01, machines=10) and not faults.objection("fan", 0.01, machines=100)


def test_the_same_scores_are_no_difference_and_the_judgement_is_plain_json() -> None:
    judgement = judged(scored(ALIKE), scored(ALIKE))
    assert (judgement.compared[0].low, judgement.compared[0].high) == (0, 0)
    assert judgement.to_json()["compared"][0]["recordings"] == 360


def test_without_a_target_domain_it_is_judged_by_what_there_is() -> None:
    table = scored({"fan": 1.0}).assign(domain="source")
    assert judged(table, table).promote
