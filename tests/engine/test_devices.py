import json

import torch

from svd_local.engine.devices import look


def test_it_says_what_torch_sees() -> None:
    seen = look()

    assert json.loads(json.dumps(seen)) == seen
    assert seen["version"] == torch.__version__
    assert seen["cuda_available"] == bool(seen["devices"])
    assert seen["threads"] >= 1
