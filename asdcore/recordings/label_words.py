"""Words for folders of normal and of anomalous recordings, and answers about other names.

Only a whole name counts, in any case, with or without accents, spaces, dots, dashes and underscores between its parts;
words of four letters or more may have a number: ``n.i.O.``, ``Not OK``, ``leak_2``, but neither ``leak_tester`` nor
``NG3``.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from asdcore.errors import AsdError

Answers = Mapping[str, str]
"""name of a folder, as `key` gives it: normal, anomaly, or machine (the name is not a label)"""
NO_ANSWERS: Answers = MappingProxyType({})

_NORMAL = {
    "English": "normal, ok, okay, good, healthy, pass, passed, intact, undamaged, no fault, fault free, no defect",
    "German": "io, in Ordnung, gut, gesund, intakt, fehlerfrei, einwandfrei, unbeschädigt",
    "French": "normale, bon, bonne, sain, saine, conforme, sans défaut",
    "Spanish, Portuguese": "bueno, buena, sano, sana, correcto, sin fallo, sin falla, bom, boa",
    "Italian": "buono, buona, conforme, integro",
    "Dutch": "goed, normaal, in orde",
    "Japanese": "正常, 正常音, 良品, seijo, seijou, seijyou, ryohin, ryouhin",
    "Chinese, Korean": "正常, 合格, 良好, zhengchang, hege, 정상",
    "data sets": "normal sound, NormalSound_IND, NormalSound_CNT",
}
_ANOMALY = {
    "English": "abnormal, anomaly, anomalies, anomalous, ng, nok, not ok, no good, not good, bad, fault, faults,"
    "faulty, defect, defects, defective, broken, damage, damaged, fail, failed, failure, failures, unhealthy, reject,"
    "rejected, leak, leaks, leaky, leakage, leaking, imbalance, unbalance, unbalanced, misalignment, misaligned,"
    "cavitation, crack, cracked, worn, worn out, loose, looseness, clogged, clogging, blocked, jammed",
    "German": "nio, nicht io, nicht in Ordnung, nicht ok, defekt, defekte, Fehler, fehlerhaft, kaputt, schlecht,"
    "Schaden, beschädigt, beschaedigt, Anomalie, Anomalien, anormal, Störung, Stoerung, gestört, gestoert, Leck,"
    "Leckage, undicht, Unwucht, Ausschuss, Verschleiß, verschlissen",
    "French": "ko, anormal, anormale, anomalie, anomalies, mauvais, mauvaise, défaut, défauts, défectueux,"
    "défectueuse, défaillance, panne, cassé, endommagé, fuite, non conforme, balourd, rebut",
    "Spanish, Portuguese": "anómalo, anomalía, anomalías, malo, mala, defecto, defectos, defectuoso, defectuosa, falla,"
    "fallo, fallos, avería, averiado, roto, dañado, fuga, desbalance, defeito, avaria, falha, vazamento, ruim",
    "Italian": "anomalo, anomala, anomalia, anomalie, difetto, difetti, difettoso, difettosa, guasto, guasti, rotto,"
    "danneggiato, perdita, scarto, sbilanciamento, non conforme",
    "Dutch": "slecht, kapot, afwijking, storing, lek, lekkage, beschadigd",
    "Japanese": "異常, 異常音, 異音, 不良, 不良品, 故障, 欠陥, 漏れ, ijo, ijou, ijyou, furyo, furyou, furyohin, koshou",
    "Chinese": "异常, 異常, 故障, 不良, 不合格, 缺陷, 损坏, 泄漏, yichang, guzhang, buhege",
    "Korean": "비정상, 불량, 이상, 고장",
    "data sets": "anomalous sound, AnomalousSound_IND, AnomalousSound_CNT",
}
_NUMBERED = 4
"""least number of letters of a word that may have a number"""
_COUNTED = re.compile(r"(?<!\d)\d{1,3}$")
"""Digits of the number of a fault; longer numbers are years, for example."""
_WORD = re.compile(r"[^\W\d_]+")
# Parts of words that no machine's name has, in the languages above.
_SAYS_ANOMALY = re.compile(
    r"anomal|abnormal|anormal|(?<!de)fault(?!less)|defect|defekt|defaut|difett|broken|kaputt|異常|异常|故障|不良"
)


@lru_cache(maxsize=10_000)
def key(name: str) -> str:
    """A name as it is compared: without case, accents and whatever is not a letter or a digit.

    >>> key("n.i.O."), key("Défaut"), key("Not_OK")
    ('nio', 'defaut', 'notok')
    """
    return "".join(sign for sign in unicodedata.normalize("NFKD", name.casefold()) if sign.isalnum())


def _table(words: Mapping[str, str]) -> frozenset[str]:
    return frozenset(key(word) for line in words.values() for word in line.split(","))


NORMAL, ANOMALY = _table(_NORMAL), _table(_ANOMALY)


def label_said(folder: str, answers: Answers = NO_ANSWERS) -> Literal["", "normal", "anomaly"]:
    """The label that the name of a folder says; empty if it says none.

    >>> [label_said(name) for name in ("OK", "niO", "leak_2", "leak_tester", "異常", "NG3", "pump")]
    ['normal', 'anomaly', 'anomaly', '', 'anomaly', '', '']
    >>> label_said("dry", {"dry": "anomaly"}), label_said("leak", {"leak": "machine"})
    ('anomaly', '')
    """
    word = key(folder)
    bare = _COUNTED.sub("", word)
    if word in answers:
        said = answers[word]
        return "normal" if said == "normal" else "anomaly" if said == "anomaly" else ""
    known = bare if len(bare) >= _NUMBERED or not bare.isascii() else word
    return "normal" if known in NORMAL else "anomaly" if known in ANOMALY else ""


def names_a_fault(name: str, answers: Answers = NO_ANSWERS, besides: str = "") -> bool:
    """Whether the name of a file contains a word for anomalous recordings that the name ``besides`` does not.

    >>> names_a_fault("0815_leak_a"), names_a_fault("leak_tester_3", besides="leak_tester"), names_a_fault("default")
    (True, False, False)
    """
    words = [key(word) for word in _WORD.findall(name)]
    pairs = [first + second for first, second in pairwise(words)]
    usual = {key(word) for word in _WORD.findall(besides)} | set(answers)
    return any(word in ANOMALY and word not in usual for word in [*words, *pairs]) or any(
        has_fault_in(word) and word not in usual for word in words
    )


def has_fault_in(machine: str, answers: Answers = NO_ANSWERS) -> bool:
    """Whether a part of a folder's name says that it is not a machine, but has faulty recordings of one.

    >>> has_fault_in("engine2_broken"), has_fault_in("leak_tester"), has_fault_in("default")
    (True, False, False)
    """
    return key(machine) not in answers and _SAYS_ANOMALY.search(key(machine)) is not None


def opposites(names: Iterable[str], answers: Answers = NO_ANSWERS) -> dict[str, str]:
    """Names with a word for anomalous that are those of others, which have a word for normal in its place: the others.

    >>> opposites(["pump_ng", "pump_ok", "leak_tester", "NG press"])
    {'pump_ng': 'pump_ok'}
    """
    said: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = re.split(r"[\s_.-]+", name)
        for place, word in enumerate(words):
            if (label := label_said(word)) and len(words) > 1 and key(name) not in answers:
                said.setdefault((*map(key, words[:place]), "", *map(key, words[place + 1 :])), {})[label] = name
    return {both["anomaly"]: both["normal"] for both in said.values() if len(both) == 2}


def answers_of(text: str) -> dict[str, str]:
    """Answers as the setting ``recordings.labels`` has them.

    Raises:
        AsdError: two for one name.

    >>> answers_of("Dry run:anomaly, leak:machine")
    {'dryrun': 'anomaly', 'leak': 'machine'}
    """
    answers: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        folder, _, label = (word.strip() for word in part.rpartition(":"))
        if answers.setdefault(key(folder), label) != label:
            raise AsdError(f"recordings.labels: {folder!r} has two labels: {answers[key(folder)]} and {label}")
    return answers
