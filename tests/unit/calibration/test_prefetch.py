"""prefetch: the items as they are, a bounded number ahead, and no thread left behind."""

from __future__ import annotations

import _thread
import gc
import itertools
import threading
import time

import pytest

from ort_quant_plugin.calibration.prefetch import prefetch
from ort_quant_plugin.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def assert_settles(made, count):
    """Exactly ``count`` items are made, and no more however long one waits."""
    end = time.monotonic() + 10
    while len(made) < count and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(made) == count


@pytest.mark.parametrize("depth", [1, 2, 100])
def test_same_items_in_the_same_order(depth):
    assert list(prefetch(range(20), depth)) == list(range(20))
    assert list(prefetch(iter("abc"), depth)) == ["a", "b", "c"]
    assert list(prefetch([], depth)) == []
    assert list(prefetch([None, None], depth)) == [None, None]


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_items_wait(depth):
    made = []

    def items():
        for index in range(50):
            made.append(index)
            yield index

    with prefetch(items(), depth) as batches:
        assert made == []  # not begun before the first one is asked for
        for index in batches:
            if index in (0, 1, 7):
                assert_settles(made, index + 1 + depth)
    assert len(made) == 50


def test_items_are_made_while_the_consumer_works():
    started = threading.Event()

    def items():
        yield 0
        started.set()
        yield 1

    with prefetch(items()) as batches:
        assert next(batches) == 0
        assert started.wait(10)  # nobody has asked for 1 yet


def test_everything_runs_in_one_background_thread():
    def items():
        for _ in range(3):
            yield threading.current_thread()

    threads = set(prefetch(items()))
    assert len(threads) == 1
    thread = threads.pop()
    assert thread.daemon
    assert thread is not threading.current_thread()


@pytest.mark.parametrize(
    "error", [DataError("Image x.jpg cannot be decoded.", hint="Replace it.", path="x.jpg"), SystemExit(3)]
)
def test_an_error_arrives_in_its_place_and_as_it_was(error):
    def items():
        yield 0
        yield 1
        raise error

    batches = prefetch(items(), 4)
    assert next(batches) == 0
    assert next(batches) == 1
    with pytest.raises(type(error)) as caught:
        next(batches)
    assert caught.value is error
    assert "items" in [entry.name for entry in caught.traceback]
    assert list(batches) == []


def test_what_cannot_be_iterated():
    with pytest.raises(TypeError, match="not iterable"):
        list(prefetch(3))


@pytest.mark.parametrize("consumed", [0, 1, 5])
def test_stopping_early_while_the_thread_waits_for_room(consumed):
    made = []

    def items():
        for index in itertools.count():
            made.append(index)
            yield index

    batches = prefetch(items(), 2)
    assert list(itertools.islice(batches, consumed)) == list(range(consumed))
    assert_settles(made, consumed + 2 if consumed else 0)
    closer = threading.Thread(target=batches.close, daemon=True)
    closer.start()
    closer.join(10)
    assert not closer.is_alive()
    batches.close()
    assert list(batches) == []


def test_stopping_while_an_item_is_made():
    making, go_on = threading.Event(), threading.Event()

    def items():
        yield 0
        making.set()
        go_on.wait(10)
        yield 1

    with prefetch(items()) as batches:
        assert next(batches) == 0
        assert making.wait(10)
        threading.Timer(0.05, go_on.set).start()


def test_an_error_of_the_consumer_stops_the_thread():
    def consume():
        with prefetch(itertools.count(), 2) as batches:
            return [1 // (index - 2) for index in batches]

    with pytest.raises(ZeroDivisionError):
        consume()


def test_a_forgotten_iterator_stops_the_thread():
    batches = prefetch(itertools.count(), 2)
    next(batches)
    del batches
    gc.collect()


def test_ctrl_c_while_waiting_for_an_item():
    waiting = threading.Event()
    go_on = threading.Event()

    def items():
        waiting.set()
        go_on.wait(10)
        yield 0

    def interrupt():
        waiting.wait(10)
        time.sleep(0.05)
        _thread.interrupt_main()
        go_on.set()

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        list(prefetch(items()))
    helper.join()


@pytest.mark.parametrize("depth", [0, -1])
def test_depth_below_one(depth):
    with pytest.raises(ConfigError, match=f"depth is {depth}") as caught:
        prefetch([1], depth)
    assert caught.value.hint
