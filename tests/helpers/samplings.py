"""A clip's parameters, to be changed by ``dataclasses.replace``."""

from __future__ import annotations

from svd_local.engine.values import Sampling

FULL_SIZE = Sampling(
    seed=0,
    frames=25,
    fps=7,
    steps=25,
    schedule="karras",
    motion=127,
    noise=0.02,
    guidance=(1.0, 3.0),
    width=1024,
    height=576,
    decode_chunk=25,
)
"""What svd-xt makes where nothing else is asked for."""
QUICK = Sampling(
    seed=11,
    frames=3,
    fps=7,
    steps=2,
    schedule="karras",
    motion=127,
    noise=0.02,
    guidance=(1.0, 3.0),
    width=64,
    height=64,
    decode_chunk=3,
)
"""The smallest clip that still runs everything: three frames, two steps, decoded at once."""
