import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from svd_local.engine import download
from svd_local.engine.text2image import PictureModel, find, render
from svd_local.errors import (
    CheckpointBroken,
    CheckpointUnavailable,
    CheckpointUnknown,
    DeviceLost,
    TierFailed,
)

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion checkpoint of a few thousand weights, with a tokenizer of single letters."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from svd_local.engine.quiet import quiet

    folder = tmp_path_factory.mktemp("painter")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: n for n, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    torch.manual_seed(0)
    with quiet():
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(block_out_channels=[32], norm_num_groups=8),
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(words),
                    hidden_size=16,
                    intermediate_size=16,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    max_position_embeddings=16,
                    eos_token_id=len(words) - 1,
                )
            ),
            tokenizer=CLIPTokenizer(str(vocabulary), str(merges), model_max_length=16),
            unet=UNet2DConditionModel(
                sample_size=8,
                block_out_channels=[8, 8],
                down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
                up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
                layers_per_block=1,
                norm_num_groups=4,
                attention_head_dim=4,
                cross_attention_dim=16,
            ),
            scheduler=DDIMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model"


@pytest.fixture
def few_steps(painter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps where the pipeline's own default is fifty."""
    from diffusers import StableDiffusionPipeline

    call = functools.partialmethod(StableDiffusionPipeline.__call__, num_inference_steps=2)
    monkeypatch.setattr(StableDiffusionPipeline, "__call__", call)


def test_words_become_a_picture_by_the_seed(
    painter: Path, few_steps: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = find(str(painter), models_dir=tmp_path)

    one, again, other = (render(model, "a pump", (25, 17), seed=seed) for seed in (1, 1, 2))

    assert (one.mode, one.size) == ("RGB", (24, 16))
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()
    assert capfd.readouterr() == ("", "")


def test_the_words_count(painter: Path, few_steps: None, tmp_path: Path) -> None:
    model = find(str(painter), models_dir=tmp_path)

    pump, valve = (render(model, words, (16, 16), seed=1) for words in ("pump", "valve"))

    assert pump.tobytes() != valve.tobytes()


def test_large_sizes_keep_their_shape(painter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from svd_local.engine import text2image

    asked = []

    class Painted(Exception):
        """Far enough."""

    def pipeline(_words: str, *, width: int, height: int, **_: object) -> None:
        asked.append((width, height))
        raise Painted

    monkeypatch.setattr(text2image, "_load", lambda _: pipeline)
    for size in ((1024, 576), (1920, 1080), (720, 1280)):
        with pytest.raises(Painted):
            render(PictureModel("x", painter), "a pump", size, seed=1)

    assert asked == [(1024, 576), (1024, 576), (576, 1024)]


def test_it_is_found_by_folder_by_name_and_in_the_cache(
    painter: Path, tmp_path: Path, make_checkpoint: Make
) -> None:
    models = tmp_path / "models"
    named = make_checkpoint(models / "org--painter")
    cached = make_checkpoint(
        tmp_path / "hub-cache" / "models--org--other" / "snapshots" / ("a" * 40)
    )

    assert find(str(painter), models_dir=models).path == painter.resolve()
    assert find("org/painter", models_dir=models).path == named.resolve()
    assert find("org/other", models_dir=models).path == cached
    assert len(find(str(painter), models_dir=models).revision) == 16


def test_what_is_not_here_is_fetched_only_with_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def heard(done: int, total: int, file: str) -> None:
        """Told of bytes."""

    def fetch(repo: str, models_dir: Path, *, token: str | None, on_progress: object) -> Path:
        assert on_progress is heard
        asked.append((repo, token))
        return models_dir / "org--painter"

    monkeypatch.setattr(download, "pull_any", fetch)

    with pytest.raises(CheckpointUnavailable, match="not installed"):
        find("org/painter", models_dir=tmp_path)
    assert asked == []
    with pytest.raises(CheckpointUnknown):
        find("no such thing", models_dir=tmp_path, allow_download=True)

    found = find(
        "org/painter", models_dir=tmp_path, allow_download=True, token="secret", on_progress=heard
    )

    assert asked == [("org/painter", "secret")]
    assert found.path == tmp_path / "org--painter"


def test_a_video_checkpoint_paints_nothing(tiny_models: Path) -> None:
    with pytest.raises(CheckpointBroken, match="cannot be used"):
        render(PictureModel("tiny", tiny_models / "tiny-svd"), "a pump", (64, 64), seed=1)


def test_a_failure_names_the_checkpoint(painter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from svd_local.engine import text2image

    def pipeline(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(text2image, "_load", lambda _: pipeline)

    with pytest.raises(TierFailed, match="org/painter failed: shapes do not match"):
        render(PictureModel("org/painter", painter), "a pump", (64, 64), seed=1)


def test_a_lost_gpu_is_no_fault_of_the_checkpoint(
    painter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from svd_local.engine import text2image

    def pipeline(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(text2image, "_load", lambda _: pipeline)
    monkeypatch.setattr(text2image, "why_lost", lambda: "an illegal memory access")
    monkeypatch.setattr(text2image, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    with pytest.raises(DeviceLost, match="was lost while org/painter painted: an illegal"):
        render(PictureModel("org/painter", painter), "a pump", (64, 64), seed=1)
