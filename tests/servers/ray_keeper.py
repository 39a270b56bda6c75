"""Keeps a Ray cluster of several nodes on this machine until its standard input ends.

    python ray_keeper.py CPUS...

Prints one JSON document: the address, and for each node the ids of the processes it consists of.
``ray start`` lets no second node join on the loopback; Ray's own test utility does.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    from ray.cluster_utils import Cluster

    usual = {"object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}
    cluster = Cluster()
    nodes = []
    for number, cpus in enumerate(sys.argv[1:]):
        own = {} if number else {"include_dashboard": False}
        nodes.append(cluster.add_node(num_cpus=int(cpus), **usual, **own))
    pids = [
        [one.process.pid for kind in node.all_processes.values() for one in kind] for node in nodes
    ]
    print(json.dumps({"address": cluster.address, "nodes": pids}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
