"""Stable Video Diffusion rewritten to give the same result with less work and less memory.

Equal to the reference to rounding, for every model of diffusers' classes; what it does not know it
refuses with `UnknownPart`.

- `weights`, `fold_parts`, `fold_unet`, `fold_decoder`: from diffusers' modules to folded weights
- `conditioning`: what is constant within a clip
- `layout`, `ops`, `statistics`, `resample`, `resblock`, `transformer`: the operations
- `network`, `unet`, `denoise`: the UNet, and the denoising loop
- `passes`: how much is computed at once
"""
