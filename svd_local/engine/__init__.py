"""The neural networks: checkpoints, loading, memory plans, and the engines that make frames.

Of ours it imports ``errors`` and ``result`` alone, so that benchmarks can run it bare. torch,
diffusers, transformers and accelerate are imported inside functions; finding, listing and checking
checkpoints (``checkpoints``, ``verify``) needs none of them.
"""
