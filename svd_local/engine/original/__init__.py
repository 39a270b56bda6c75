"""Checkpoints that are one file in Stability's original layout, such as ``svd_xt.safetensors``.

`weights` says what a weight's place in such a file can look like; `unet`, `vae` and `image_encoder` list
every weight of a network with its name, its shape and its place; `layout` puts them together; `recognise`
tells what a file is; `check` compares it with the list, without torch; `read` fills the networks.

The names are those of the modules in Stability-AI/generative-models (``sgm``) that the published
configurations ``scripts/sampling/configs/svd.yaml`` and ``svd_xt.yaml`` put together.
"""
