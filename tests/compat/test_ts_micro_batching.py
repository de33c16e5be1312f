from __future__ import annotations

import gc
import threading
import weakref

import pytest
from ts.handler_utils.micro_batching import MicroBatching
from ts.torch_handler.base_handler import BaseHandler


class Steps(BaseHandler):
    def __init__(self):
        super().__init__()
        self.sizes: list[int] = []

    def preprocess(self, data):
        self.sizes.append(len(data))
        return [row + 1 for row in data]

    def inference(self, data):
        if 100 in data:
            raise LookupError("100 is not for me")
        return [row * 2 for row in data]

    def postprocess(self, data):
        return data


@pytest.fixture
def batching():
    made = MicroBatching(Steps(), 3, {"inference": 2})
    yield made
    made.shutdown()


def test_order_and_sizes(batching):
    assert batching.handle(list(range(10))) == [(row + 1) * 2 for row in range(10)]
    assert sorted(batching.handler.sizes) == [1, 3, 3, 3]
    assert batching.handle([]) == []


def test_an_exception_is_raised_and_does_not_poison_the_next_batch(batching):
    with pytest.raises(LookupError, match="not for me"):
        batching.handle([1, 2, 3, 99, 5, 6, 7])
    assert batching.handle([1]) == [4]


def test_parallelism_changes_while_running(batching):
    assert [len(group) for group in batching.thread_groups.values()] == [1, 2, 1]
    batching.parallelism = {"preprocess": 3, "inference": 1}
    assert [len(group) for group in batching.thread_groups.values()] == [3, 1, 1]
    assert batching.parallelism == {"preprocess": 3, "inference": 1}
    assert batching.handle([1, 2, 3, 4]) == [4, 6, 8, 10]


@pytest.mark.parametrize("parallelism", [{"inference": 0}, {"other": 1}])
def test_wrong_parallelism(batching, parallelism):
    with pytest.raises(ValueError, match="steps are"):
        batching.parallelism = parallelism


def test_wrong_size():
    with pytest.raises(ValueError, match="micro_batch_size"):
        MicroBatching(Steps(), 0)


def test_the_micro_batch_number_is_known_inside_a_step():
    class Asking(Steps):
        seen: list[object] = []
        batching: MicroBatching

        def inference(self, data):
            self.seen.append(self.batching.get_micro_batch_idx())
            return data

    handler = Asking()
    handler.batching = MicroBatching(handler, 1)
    handler.batching.handle([1, 2])
    assert handler.seen == [0, 1]
    assert handler.batching.get_micro_batch_idx() is None
    handler.batching.shutdown()


def test_as_a_handle(batching, context):
    made = context(headers=({}, {}))
    assert batching([1, 2], made) == [4, 6]
    assert made.metrics.drain()[0]["name"] == "HandlerTime"
    assert batching([1], context(headers=({"describe": "True"},))) == [None]


def test_threads_end_with_the_object():
    batching = MicroBatching(Steps(), 1)
    threads = [worker.thread for group in batching.thread_groups.values() for worker in group]
    reference = weakref.ref(batching)
    del batching
    gc.collect()
    assert reference() is None
    [thread.join(60) for thread in threads]
    assert not any(thread.is_alive() for thread in threads)
    assert all(thread.daemon for thread in threads) or threading.active_count() < 3
