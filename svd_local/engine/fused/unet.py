"""The fused UNet: folded once, prepared once a clip, stepped as often as the schedule asks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from svd_local.engine.fused.conditioning import Conditioning
from svd_local.engine.fused.fold_unet import fold_unet
from svd_local.engine.fused.fp8 import in_fp8
from svd_local.engine.fused.layout import from_images
from svd_local.engine.fused.network import StepConstants, features
from svd_local.engine.fused.ops import conv3x3
from svd_local.engine.fused.passes import WHOLE, Passes
from svd_local.engine.fused.regions import Compilation, working
from svd_local.engine.fused.skips import ResidentSkips, SkipStore
from svd_local.engine.fused.supply import AT_HAND, Streamed, Supply
from svd_local.engine.fused.unknown import UnknownPart
from svd_local.engine.fused.weights import UNetWeights, map_tensors, parts_in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

    from svd_local.engine.fused.deep_cache import DeepCache, DeepFeature
    from svd_local.engine.fused.transformer import TransformerConstants

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClipConstants:
    """What `FusedUNet.prepare` worked out for one clip.

    Attributes:
        image: conv_in of the image latents and its bias, (batch, 1 or f, h, w, channels).
        biases: of each resblock the two tables of biases, (steps, rows, channels).
        transformers: of each transformer its constants.
        guidance: guidance scale of each frame (f,) where the batch has an unconditional half in front
            of a conditional one; None without guidance.
        latent_channels: channels that the latents of a step must have.
    """

    image: Tensor
    biases: tuple[tuple[Tensor, Tensor], ...]
    transformers: tuple[TransformerConstants, ...]
    guidance: Tensor | None
    latent_channels: int

    def at(self, step: int) -> StepConstants:
        """The constants of one step."""
        return StepConstants(
            tuple((spatial[step], temporal[step]) for spatial, temporal in self.biases),
            self.transformers,
        )

    def item(self, index: int) -> ClipConstants:
        """The constants of one batch item alone, without guidance."""

        def row(rows: Tensor, axis: int) -> Tensor:
            return rows if rows.shape[axis] == 1 else rows.narrow(axis, index, 1)

        return replace(
            self,
            image=self.image[index : index + 1],
            biases=tuple((row(s, 1), row(t, 1)) for s, t in self.biases),
            transformers=tuple(
                replace(t, contexts=tuple((row(s, 0), row(m, 0)) for s, m in t.contexts))
                for t in self.transformers
            ),
            guidance=None,
        )


@dataclass(frozen=True)
class FusedUNet:
    """A `UNetSpatioTemporalConditionModel` rewritten to do the same with less work.

    Attributes:
        weights: the folded network.
        conditioning: what is only needed once a clip; may lie on another device.
        passes: how much is computed at once.
        one_by_one: run the batch's items (the halves of guidance) one after another.
        skips: makes the store of the down path's results, one for each run through the network.
        supply: has the weights between conv_in and the way out on the device when they are due.
        compilation: what of a step is compiled; None for nothing.
    """

    weights: UNetWeights
    conditioning: Conditioning
    passes: Passes = WHOLE
    one_by_one: bool = False
    skips: Callable[[], SkipStore] = field(default=ResidentSkips)
    supply: Supply = AT_HAND
    compilation: Compilation | None = None

    @classmethod
    def from_reference(cls, unet: nn.Module, dtype: torch.dtype | None = None) -> FusedUNet:
        """Fold a loaded UNet. Weights that need no folding share its memory.

        Args:
            unet: the diffusers model, its weights on a device, in any floating type.
            dtype: type of the folded weights; the model's own where None.

        Raises:
            UnknownPart: some part of it is of a kind whose arithmetic is not known here.
        """
        weights, conditioning = fold_unet(unet, dtype)
        return cls(weights, conditioning)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and so of the arithmetic."""
        return self.weights.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.weights.conv_in.weight.device

    def to(self, device: torch.device | str, *, conditioning: bool = True) -> FusedUNet:
        """A copy on another device, its conditioning with it or left where it is."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device)

        moved = replace(self, weights=map_tensors(self.weights, move))
        if conditioning:
            moved = replace(moved, conditioning=map_tensors(self.conditioning, move))
        return moved

    def streamed(self, device: torch.device | str) -> FusedUNet:
        """A copy that runs on another device with its weights left here, brought part by part.

        Only the way in and the way out lie there, and two loads at a time of what is between.
        """

        def move(part: T) -> T:
            return map_tensors(part, lambda tensor: tensor.to(device))

        weights = replace(
            self.weights,
            conv_in=move(self.weights.conv_in),
            norm_out=move(self.weights.norm_out),
            conv_out=move(self.weights.conv_out),
        )
        supply = Streamed(parts_in_order(weights), device)
        return replace(self, weights=weights, supply=supply)

    def in_fp8(self) -> FusedUNet:
        """An approximate copy with linear layers in 8 bits, see `fp8`; the rest shares our memory."""
        return replace(self, weights=in_fp8(self.weights))

    def prepare(
        self,
        *,
        image_latents: Tensor,
        image_embeddings: Tensor,
        added_time_ids: Tensor,
        timesteps: Tensor,
        num_frames: int,
        guidance: Tensor | None = None,
    ) -> ClipConstants:
        """Work out a clip's constants.

        Args:
            image_latents: (batch, image channels, h, w), the same for every frame, or (batch, f, image
                channels, h, w).
            image_embeddings: (batch, 1, channels) or (batch, channels): one context token each.
            added_time_ids: (1, ids) for the whole batch, else (batch, ids).
            timesteps: (steps,) of the whole schedule.
            num_frames: frames of the clip.
            guidance: (f,) scales; the batch's first half is then the unconditional one.

        Raises:
            UnknownPart: the context has more than one token.
            ValueError: guidance with an odd batch.
        """
        context = _one_token(image_embeddings)
        if guidance is not None and image_latents.shape[0] % 2:
            raise ValueError("guidance needs a batch of an unconditional and a conditional half")
        if image_latents.dim() == 4:
            image_latents = image_latents[:, None]
        image_latents = image_latents.to(self.device, self.dtype)
        return ClipConstants(
            image=self._conv_in(image_latents, image=True),
            biases=self.conditioning.time_biases(
                timesteps, added_time_ids, self.dtype, self.device
            ),
            transformers=self.conditioning.transformer_constants(
                context, num_frames, self.dtype, self.device
            ),
            guidance=None if guidance is None else guidance.to(self.device, self.dtype),
            latent_channels=self.weights.conv_in.weight.shape[1] - image_latents.shape[2],
        )

    def step(
        self, latents: Tensor, clip: ClipConstants, step: int, deep: DeepCache | None = None
    ) -> Tensor:
        """The model's prediction at one step, guided where the clip is.

        Args:
            latents: (videos, f, latent channels, h, w), already scaled for the step; with guidance one
                video serves both halves of the batch.
            clip: from `prepare`.
            step: index into the clip's schedule.
            deep: the clip's deep features, which make some steps approximate; None for exact ones.

        Returns:
            (videos, f, out channels, h, w).

        Raises:
            ValueError: latents of another number of channels than conv_in has left for them, or a
                cache that goes deeper than the network.
        """
        if latents.shape[2] != clip.latent_channels:
            raise ValueError(
                f"{latents.shape[2]} latent channels, this clip takes {clip.latent_channels}"
            )
        latents = latents.to(self.dtype)
        if deep is not None:
            deep.begin(step)
        with working(self.compilation):
            return self._step(latents, clip, step, deep)

    def _step(
        self, latents: Tensor, clip: ClipConstants, step: int, deep: DeepCache | None
    ) -> Tensor:
        if self.one_by_one:
            return self._items_apart(latents, clip, step, deep)
        x = self._features(latents, clip, step, None if deep is None else deep.of(0))
        if clip.guidance is not None:
            # conv_out is linear, and the halves' shares add up to one: mix its inputs, run it once.
            plain, guided = x.chunk(2)
            x = plain.lerp_(guided, clip.guidance[:, None, None, None])
        return self._conv_out(x)

    def _features(
        self, latents: Tensor, clip: ClipConstants, step: int, deep: DeepFeature | None
    ) -> Tensor:
        """conv_out's input, from latents that serve each equal part of the batch."""
        batch = clip.image.shape[0]
        return features(
            self._conv_in(latents, image=False)
            .repeat(batch // len(latents), 1, 1, 1, 1)
            .add_(clip.image),
            self.weights,
            clip.at(step),
            self.passes,
            self.skips(),
            self.supply,
            deep,
        )

    def _items_apart(
        self, latents: Tensor, clip: ClipConstants, step: int, deep: DeepCache | None
    ) -> Tensor:
        """One batch item after another; the guidance is mixed after conv_out, whose output is small."""
        import torch

        batch = clip.image.shape[0]
        results = []
        for index in range(batch):
            video = index % len(latents)
            kept = None if deep is None else deep.of(index)
            x = self._features(latents[video : video + 1], clip.item(index), step, kept)
            results.append(self._conv_out(x))
            del x
        y = torch.cat(results)
        if clip.guidance is None:
            return y
        plain, guided = y.chunk(2)
        return plain.lerp_(guided, clip.guidance[:, None, None, None])

    def _conv_in(self, latents: Tensor, *, image: bool) -> Tensor:
        """The latent or the image half of conv_in on (b, f, c, h, w); the bias is in the image half."""
        from torch.nn.functional import conv2d

        weight, bias = self.weights.conv_in.weight, self.weights.conv_in.bias
        channels = latents.shape[2]
        half = weight[:, -channels:] if image else weight[:, :channels]
        images = conv2d(latents.flatten(0, 1), half, bias if image else None, padding=1)
        return from_images(images, latents.shape[0])

    def _conv_out(self, x: Tensor) -> Tensor:
        y = conv3x3(x, self.weights.conv_out)
        return y.permute(0, 1, 4, 2, 3).contiguous()

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
    ) -> Tensor:
        """What the reference's ``forward`` returns for the same arguments, shapes and all.

        Args:
            sample: (batch, f, latent + image channels, h, w).
            timestep: one number, or a tensor of one, or of one for each batch item.
            encoder_hidden_states: (batch, 1, channels).
            added_time_ids: (batch, ids).

        Returns:
            (batch, f, out channels, h, w).

        Raises:
            UnknownPart: the context has more than one token.
            ValueError: more timesteps than one, and not one for each batch item.
        """
        import torch

        timesteps = torch.as_tensor(timestep).reshape(-1)
        batch = len(sample)
        if timesteps.numel() > 1:
            # A clip's items share their timestep; only here each may have its own.
            if len(timesteps) != batch:
                raise ValueError(f"{len(timesteps)} timesteps for a batch of {batch}")
            rows = (sample, timesteps, encoder_hidden_states, added_time_ids.expand(batch, -1))
            items = zip(*(torch.split(row, 1) for row in rows), strict=True)
            return torch.cat([self.forward(*item) for item in items])
        latent_channels = sample.shape[2] // 2
        clip = self.prepare(
            image_latents=sample[:, :, latent_channels:],
            image_embeddings=encoder_hidden_states,
            added_time_ids=added_time_ids,
            timesteps=timesteps,
            num_frames=sample.shape[1],
        )
        return self.step(sample[:, :, :latent_channels], clip, 0)


def _one_token(embeddings: Tensor) -> Tensor:
    if embeddings.dim() == 2:
        return embeddings
    if embeddings.shape[1] != 1:
        found = f"{embeddings.shape[1]} context tokens"
        raise UnknownPart("the image embedding", found, "a single context token")
    return embeddings[:, 0]
