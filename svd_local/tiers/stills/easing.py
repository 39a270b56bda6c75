"""How progress runs over time: from 0 to 1, without jolts."""

from __future__ import annotations


def smoothstep(t: float) -> float:
    """The cubic from 0 to 1 that is level at both ends; ``t`` outside 0 to 1 is held there."""
    t = min(max(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def ramped(t: float, ramp_in: float, ramp_out: float) -> float:
    """Progress of something that gathers speed, keeps it, and comes to rest.

    The speed rises from nothing over the first ``ramp_in`` of the time and falls to nothing over
    the last ``ramp_out``, each along ``smoothstep``, so that even the acceleration has no jump; in
    between it is constant. A ramp of 0 begins or ends at full speed.

    Args:
        t: time, 0 to 1; what lies outside is held at the nearer end.
        ramp_in: part of the time spent gathering speed.
        ramp_out: part of the time spent slowing down; both together at most 1.

    Returns:
        Progress, 0 to 1, never falling.
    """
    if ramp_in < 0 or ramp_out < 0 or ramp_in + ramp_out > 1:
        raise ValueError(f"ramps of {ramp_in} and {ramp_out} do not fit into the time")
    t = min(max(t, 0.0), 1.0)
    whole = 1.0 - (ramp_in + ramp_out) / 2.0
    if t < ramp_in:
        return ramp_in * _ramp(t / ramp_in) / whole
    if t > 1.0 - ramp_out:
        return 1.0 - ramp_out * _ramp((1.0 - t) / ramp_out) / whole
    return (ramp_in / 2.0 + (t - ramp_in)) / whole


def _ramp(u: float) -> float:
    """The way covered while the speed follows ``smoothstep``: its integral from 0 to ``u``."""
    return u**3 - u**4 / 2.0
