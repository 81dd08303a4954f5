import os
import signal
import threading

import pytest

from lwrefinenet.training.interruption import stop_requests


def test_the_first_interrupt_is_a_request_and_the_second_stops_at_once():
    with stop_requests() as stop:
        stop.learning = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason == "signal SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_termination_stays_a_request_however_often_it_comes():
    with stop_requests() as stop:
        stop.learning = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason == "signal SIGTERM"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_signal_stops_at_once(number):
    with stop_requests(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_the_former_handlers_are_back_afterwards():
    before = signal.getsignal(signal.SIGINT)
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_than_the_main_one_trains_without_listening():
    reasons = []

    def work():
        with stop_requests(time_limit=0) as stop:
            reasons.append(stop.reason)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reasons == ["the time limit"]
