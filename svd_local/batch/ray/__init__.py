"""A batch on a Ray cluster: one actor a GPU makes clips, this process claims and publishes them.

``run_ray`` is ``run_batch`` over such actors. Only this process, the driver, touches the catalog, the
output folder and the pictures: a clip's order goes out with the bytes of its pictures, the clip comes
back with the bytes of its files, and is published by the code that publishes the driver's own. So a
node that dies can lose work, and nothing else.

    run       from specs to summary
    staff     the seats: an actor each, hired, heard, replaced, set aside
    far       one actor as the maker of a batch's lanes
    cluster   the only module that imports Ray: connecting, hiring, calling
    actor     what runs on the nodes
    home      an actor's temporary media root, and what dead ones left
    values    what they say to one another

Importing this package imports neither Ray nor torch.
"""

from __future__ import annotations

from svd_local.batch.ray.run import run_ray

__all__ = ["run_ray"]
