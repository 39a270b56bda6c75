"""Kernels of our own, in Triton, each beside the plain torch it stands for: its twin.

    choice       which of them run, by GPU and by width; where nothing was measured the twins do
    table.json   what was measured to win, by GPU
    proof        each one tried against its twin before a clip relies on it
    registered   the kernels as torch operations, with shapes for fake tensors
    group_norm, geglu, geglu_product, temporal_attention, residual
                 the kernels; these alone import Triton, and are imported where there is one

The twins are where they always were, in `fused.norms`, `fused.ops` and `fused.transformer`: each has one
place where it asks `choice.takes` and otherwise does what torch can do. Kernels take half precision,
compute in single, and round once; they are for tensors on a GPU, and on the CPU for Triton's interpreter.
"""
