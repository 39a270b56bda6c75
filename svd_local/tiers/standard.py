"""The standard ladder, best tier first."""

from __future__ import annotations

from svd_local.settings import Settings
from svd_local.tiers.base import Tier
from svd_local.tiers.fake import FakeTier
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.image_sequence import ImageSequenceTier
from svd_local.tiers.local import LocalTier
from svd_local.tiers.webui import WebUITier


def standard_tiers(settings: Settings) -> tuple[Tier, ...]:
    """Every tier that makes videos, set up from ``settings``, in the order of ``--tier auto``."""
    paces = settings.media_dir / ".pace"
    return (
        LocalTier(
            models_dir=settings.models_dir,
            default_checkpoint=settings.checkpoint,
            vram_budget=settings.vram_budget,
            kernels=settings.kernels,
            allow_download=settings.allow_download,
            token=settings.hub_token,
        ),
        HuggingFaceTier(
            token=settings.hub_token,
            consent_for_auto=settings.remote_consent,
            model=settings.hf_model,
            provider=settings.hf_provider,
            text2image=None if settings.text2image is not None else settings.hf_text2image,
            paces=paces,
        ),
        WebUITier(
            url=settings.stable_diffusion_local_url,
            auth=settings.webui_auth,
            paces=paces,
        ),
        ImageSequenceTier(),
        FakeTier(settings.enable_fake_tier, settings.fake_seconds, settings.fake_failures),
    )
