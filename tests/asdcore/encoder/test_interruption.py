import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from asdcore.encoder.interruption import Interruption


def test_the_first_signal_waits_until_it_is_acted_on() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            interruption.act()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_acts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("not reached")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_nobody_acted_on_acts_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)


def test_the_handler_that_was_there_gets_the_signal() -> None:
    # As Prefect's does, which turns SIGTERM into the end of a cancelled flow run.
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    try:
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
            assert not got
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_it_does_nothing() -> None:
    def nothing() -> int | None:
        with Interruption() as interruption:
            return interruption.signal

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(nothing).result() is None
