"""What every tier on another machine needs: one door for HTTP, and one end to everything.

A tier declares how much trouble it puts up with (``tiers.policy``). ``call`` gives one clip's traffic a
wall clock and a way to end it at once; ``door`` is the only way out: ``gate`` says where to, ``exchange``
opens the connections, ``pace`` how often, ``refusals`` turns what comes back into our errors, and what
passes is tried again there. That a dead service is left alone is the ladder's part.

``hub`` puts the door under huggingface_hub, ``pictures`` keeps pictures from being opened by it, and
``hub_work`` asks its providers; ``webui_api`` and ``webui_work`` speak the A1111-style routes; ``video``
proves that bytes are a video.

The HTTP library is the one huggingface_hub brings (httpx up to its 1.x, httpx2 since), because its
client must be of that library anyway: a second one would be a second set of time-outs, proxies,
certificates and bugs. Both have the same names, and only ``library`` knows which it is.
"""
