from __future__ import annotations

import pytest
from servers.nights import gpu

from svd_local.batch.workers import places
from svd_local.batch.workers.places import choose_places
from svd_local.errors import InvalidRequest

GPUS = [gpu("GPU-aa"), gpu("GPU-ab"), gpu("GPU-c")]


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr(places, "list_gpus", lambda: list(GPUS))
    monkeypatch.setattr(places, "no_cuda", lambda: None)


@pytest.fixture
def none(monkeypatch):
    monkeypatch.setattr(places, "no_cuda", lambda: "no NVIDIA GPU was found")


@pytest.mark.parametrize(
    ("workers", "gpus", "chosen"),
    [
        (None, None, [0, 1, 2]),
        (2, None, [0, 1]),
        (0, None, []),
        (None, ["2", "0"], [2, 0]),
        (None, ["GPU-ab", " 0"], [1, 0]),
        (1, ["2", "0"], [2]),
        (None, ["1", "GPU-ab"], [1]),
    ],
)
def test_one_worker_on_each_chosen_gpu(three, workers, gpus, chosen):
    assert choose_places(workers, gpus) == [GPUS[number] for number in chosen]


@pytest.mark.parametrize(
    ("workers", "gpus", "message"),
    [
        (4, None, "more than the 3 GPUs"),
        (2, ["1"], "more than the 1 GPUs"),
        (-1, None, "less than 0"),
        (None, ["3"], "none of the GPUs here"),
        (None, ["GPU-a"], "more than one"),
        (None, [""], "none of the GPUs here"),
        (None, [], "none is named"),
        (0, ["0"], "there are to be none"),
    ],
)
def test_what_cannot_be_chosen_is_told(three, workers, gpus, message):
    with pytest.raises(InvalidRequest, match=message):
        choose_places(workers, gpus)


def test_without_gpus_the_batch_stays_in_this_process_unless_workers_are_asked_for(none):
    assert choose_places() == choose_places(0) == []
    assert choose_places(3) == [None] * 3
    with pytest.raises(InvalidRequest, match="no NVIDIA GPU"):
        choose_places(None, ["0"])
