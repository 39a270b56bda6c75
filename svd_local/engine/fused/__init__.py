"""Stable Video Diffusion rewritten to give the same result with less work and less memory.

Equal to the reference to rounding, for every model of diffusers' classes; what it does not know it
refuses with `UnknownPart`.

- `unknown`, `weights`, `fold_parts`, `fold_unet`, `fold_decoder`: from diffusers' modules to weights
- `picture`, `conditioning`: what is constant within a clip
- `layout`, `ops`, `norms`, `resample`, `resblock`, `transformer`: the operations
- `network`, `unet`, `denoise`: the UNet, and the denoising loop
- `decoder_parts`, `decoder`, `streaming`: latents to frames, at once or in little memory
- `render`: a whole clip
- `passes`, `skips`, `supply`: how much is computed at once, where what waits is kept, where weights come from
- `counting`: work and memory at full size without a GPU
"""
