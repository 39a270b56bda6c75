"""From a checkpoint to a pipeline in main memory, with every way that can fail told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.engine import synthetic, tiny
from svd_local.engine.aliases import TINY
from svd_local.engine.checkpoint import Checkpoint, repair_hint
from svd_local.engine.original.read import read_pipeline
from svd_local.engine.quiet import quiet
from svd_local.engine.verify import best_variant, require_whole
from svd_local.errors import CheckpointBroken, TierUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from diffusers import StableVideoDiffusionPipeline
    from torch.nn import Module


@dataclass(frozen=True, slots=True)
class Precision:
    """A floating-point type by name, as results and fingerprints write it."""

    name: str
    itemsize: int

    def of_torch(self) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, self.name)
        return dtype


FP32 = Precision("float32", 4)
FP16 = Precision("float16", 2)
BF16 = Precision("bfloat16", 2)


def precision_for(device: str) -> Precision:
    """What a device runs in: half precision on a GPU, fp32 on the CPU."""
    return FP16 if device.startswith("cuda") else FP32


def safer_than(precision: Precision) -> Precision | None:
    """Where a clip that came out NaN or black in ``precision`` is tried again; None: nowhere.

    What overflows in fp16 has room in bfloat16, on GPUs that have it.
    """
    import torch

    if precision == FP32:
        return None
    if precision == FP16 and torch.cuda.is_available() and torch.cuda.is_bf16_supported(False):
        return BF16
    return FP32


def load(checkpoint: Checkpoint, device: str, precision: Precision) -> StableVideoDiffusionPipeline:
    """The pipeline of ``checkpoint`` in ``precision``, in main memory.

    Nothing is downloaded and no pickle is opened. Synthetic weights are made on ``device`` and stay
    there; ``tiny-svd`` is written to the models folder where it is not yet.

    Raises:
        CheckpointBroken: the files are damaged or of another architecture.
        TierUnavailable: the libraries to load it are missing or do not fit each other.
        StorageFailed: ``tiny-svd`` could not be written.
    """
    if checkpoint.path is None:
        with quiet():
            made = synthetic.make(checkpoint.frames, device, precision.of_torch())
            made.set_progress_bar_config(disable=True)
            return made
    if checkpoint.name == TINY and checkpoint.source == "made-here":
        tiny.ensure(checkpoint.path.parent)
    require_whole(checkpoint)
    if checkpoint.unet is not None:
        return _distilled(checkpoint, checkpoint.unet.file, device, precision)
    return _from_files(checkpoint, checkpoint.path, precision)


def _distilled(
    checkpoint: Checkpoint, file: Path, device: str, precision: Precision
) -> StableVideoDiffusionPipeline:
    """The pipeline of the checkpoint it belongs to with another UNet and scheduler."""
    from safetensors import SafetensorError

    from svd_local.engine.consistency import ConsistencyScheduler

    assert checkpoint.base is not None
    pipeline = load(checkpoint.base, device, precision)
    try:
        _replace_weights(pipeline.unet, file)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _broken(checkpoint, f"could not be loaded: {error}") from error
    pipeline.scheduler = ConsistencyScheduler()
    return pipeline


def _replace_weights(network: Module, file: Path) -> None:
    """Every weight of ``network`` from ``file``, one after the other, in the types they have now.

    Raises:
        KeyError: the file lacks a weight.
        ValueError: a weight has another shape.
    """
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt", device="cpu") as weights, torch.no_grad():
        names = set(weights.keys())
        for name, weight in network.named_parameters():
            if name not in names:
                raise KeyError(f"{file.name} has no {name}")
            new = weights.get_tensor(name)
            if new.shape != weight.shape:
                raise ValueError(f"{name} has shape {tuple(new.shape)}, not {tuple(weight.shape)}")
            weight.copy_(new)


def _from_files(
    checkpoint: Checkpoint, path: Path, precision: Precision
) -> StableVideoDiffusionPipeline:
    from safetensors import SafetensorError

    read = _one_file if checkpoint.layout == "original" else _folder
    try:
        with quiet():
            pipeline = read(checkpoint, path, precision)
    except ImportError as error:
        raise TierUnavailable(
            f"the libraries that load checkpoints do not work here: {error}",
            hint="Install svd-local again in a fresh environment, without torchvision.",
        ) from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _broken(checkpoint, f"could not be loaded: {error}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _one_file(
    checkpoint: Checkpoint, path: Path, precision: Precision
) -> StableVideoDiffusionPipeline:
    architecture = checkpoint.architecture()
    assert architecture is not None
    return read_pipeline(path, architecture, precision.of_torch())


def _folder(
    checkpoint: Checkpoint, path: Path, precision: Precision
) -> StableVideoDiffusionPipeline:
    from diffusers import StableVideoDiffusionPipeline

    pipeline: StableVideoDiffusionPipeline = StableVideoDiffusionPipeline.from_pretrained(
        path,
        torch_dtype=precision.of_torch(),
        use_safetensors=True,
        local_files_only=True,
        **_networks(checkpoint, path, precision),
    )
    return pipeline


def _networks(checkpoint: Checkpoint, folder: Path, precision: Precision) -> dict[str, Any]:
    """The three networks, one by one: only so do the libraries tell what the files did not hold.

    They would leave such weights random and go on with a warning.
    """
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionModelWithProjection

    kinds = {
        "unet": UNetSpatioTemporalConditionModel,
        "vae": AutoencoderKLTemporalDecoder,
        "image_encoder": CLIPVisionModelWithProjection,
    }
    networks: dict[str, Any] = {}
    for name, kind in kinds.items():
        networks[name], told = kind.from_pretrained(
            folder,
            subfolder=name,
            torch_dtype=precision.of_torch(),
            variant=best_variant(folder, half=precision.itemsize == 2),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        missing = sorted(told["missing_keys"])
        if missing:
            raise _broken(
                checkpoint,
                f"is of another architecture: its {name} lacks {len(missing)} weights, "
                f"{missing[0]} among them",
            )
    return networks


def _broken(checkpoint: Checkpoint, what: str) -> CheckpointBroken:
    return CheckpointBroken(
        f"checkpoint {checkpoint.name} {what}", hint=repair_hint(checkpoint), field="checkpoint"
    )
