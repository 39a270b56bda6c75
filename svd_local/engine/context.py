"""Whether CUDA still answers this process.

Some errors of a GPU end with the call that met them, as running out of memory does. Others break the
process's CUDA context: a device-side assertion, an illegal address, an uncorrectable error in the GPU's
memory, a launch that failed. From then on every call fails with the same error, and only a new process
gets a new context (CUDA Runtime API, "Error Handling": errors after which "the process must be
terminated and relaunched"). Their list grows with every version of CUDA, and libraries above it wrap
them in messages of their own; so the context itself is asked.
"""

from __future__ import annotations

LOST_HINT = (
    "Start the program again. If it comes back, look at the driver's messages (dmesg, nvidia-smi)."
)

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


def why_lost() -> str | None:
    """Why no CUDA call of this process succeeds, in one line; None where one does.

    Waits for what is under way on the current device, then computes one number: milliseconds. Where
    no context was made yet this makes one. A GPU without free memory is not a lost one.
    """
    import torch

    try:
        torch.cuda.synchronize()
        if torch.ones(1, device="cuda").add_(1).item() != 2:
            return "1 + 1 is not 2 on the GPU"
    except torch.OutOfMemoryError:
        return None
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch is built without CUDA
        if getattr(error, "error_code", None) == _OUT_OF_MEMORY:
            return None
        return str(error).strip().partition("\n")[0] or repr(error)
    return None
