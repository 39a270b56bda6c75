"""Short training-video clips with Stable Video Diffusion, in-process, on your own GPU."""
