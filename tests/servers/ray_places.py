"""Actors on a Ray cluster, and one on a GPU that it has not: where each has its place, as JSON. Run by path.

Argument: the cluster's address. None of the actors ever comes up.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from svd_local.batch.ray.actor import Actor
from svd_local.batch.ray.cluster import Cluster, Places
from svd_local.batch.ray.values import House


class FrozenActor(Actor):
    def __init__(self, house: House) -> None:
        threading.Event().wait()


if __name__ == "__main__":
    with Cluster(sys.argv[1], FrozenActor) as cluster:
        house = House("0", {}, Path(), gpu=False)
        places = cluster.places()
        hands = [cluster.hire(house, places, 1) for _ in range(places.count)]
        give_up = time.monotonic() + 60
        while any(hand.place() is None for hand in hands) and time.monotonic() < give_up:
            time.sleep(0.1)
        # Of CPUs Ray now and then gives one more than there are, while an actor starts.
        hands.append(cluster.hire(house, Places(1, True, 1), 1))
        time.sleep(2)
        print(json.dumps([hand.place() for hand in hands]))
