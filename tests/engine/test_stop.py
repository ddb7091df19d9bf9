"""Ctrl-C and SIGTERM while a training runs in this process."""

from __future__ import annotations

import os
import signal

import pytest

from vlray.engine.stop import StopRequest, on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_signal_ends_it_at_once(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), on_signals(StopRequest()):
        os.kill(os.getpid(), number)


def test_once_it_has_begun_the_first_signal_asks_and_the_second_interrupts() -> None:
    stop = StopRequest()
    stop.has_begun = True
    with on_signals(stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
