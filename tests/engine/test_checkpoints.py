import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from svd_local.engine.checkpoints import list_installed, pull_name, resolve
from svd_local.errors import CheckpointBroken, CheckpointUnavailable, CheckpointUnknown

Make = Callable[..., Path]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def cached(tmp_path: Path, make_checkpoint: Make, repo: str, commit: str) -> Path:
    root = tmp_path / "hub-cache" / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(commit)
    return make_checkpoint(root / "snapshots" / commit)


def test_an_alias_is_found_in_the_models_folder(models: Path, make_checkpoint: Make) -> None:
    make_checkpoint(models / "svd", frames=14)

    found = resolve("svd", models)

    assert (found.name, found.path, found.frames) == ("svd", models / "svd", 14)
    assert (found.width, found.height) == (1024, 576)
    assert found.repo == "stabilityai/stable-video-diffusion-img2vid"
    assert found.licence
    assert not found.synthetic


@pytest.mark.parametrize("name", ["svd-xt", "stabilityai/stable-video-diffusion-img2vid-xt"])
@pytest.mark.parametrize("folder", ["svd-xt", "stabilityai--stable-video-diffusion-img2vid-xt"])
def test_alias_and_repository_are_one(
    models: Path, make_checkpoint: Make, name: str, folder: str
) -> None:
    make_checkpoint(models / folder)

    assert resolve(name, models).name == "svd-xt"


def test_the_hubs_cache_counts_at_its_main_commit(
    tmp_path: Path, models: Path, make_checkpoint: Make
) -> None:
    repo = "stabilityai/stable-video-diffusion-img2vid-xt"
    main = cached(tmp_path, make_checkpoint, repo, "a" * 40)
    make_checkpoint(main.parent / ("b" * 40))

    found = resolve("svd-xt", models)

    assert (found.source, found.commit, found.path) == ("hub-cache", "a" * 40, main)


def test_a_folder_without_weights_does_not_hide_the_cache(
    tmp_path: Path, models: Path, make_checkpoint: Make
) -> None:
    (models / "svd").mkdir(parents=True)
    cached(tmp_path, make_checkpoint, "stabilityai/stable-video-diffusion-img2vid", "c" * 40)

    assert resolve("svd", models).source == "hub-cache"


def test_the_default_is_xt_where_it_is_installed(models: Path, make_checkpoint: Make) -> None:
    with pytest.raises(CheckpointUnavailable) as nothing:
        resolve(None, models)
    make_checkpoint(models / "svd", frames=14)
    only_svd = resolve(None, models)
    make_checkpoint(models / "svd-xt")

    assert "svd-local models pull svd-xt" in nothing.value.hint
    assert only_svd.name == "svd"
    assert resolve(None, models).name == "svd-xt"


def test_a_folder_of_the_users_own(tmp_path: Path, models: Path, make_checkpoint: Make) -> None:
    make_checkpoint(models / "my-tune")
    elsewhere = make_checkpoint(tmp_path / "elsewhere")
    (elsewhere / "svd_local.json").write_text('{"width": 768, "height": 432, "frames": 14}')

    assert resolve("my-tune", models).path == models / "my-tune"
    found = resolve(str(elsewhere), models)
    assert (found.width, found.height, found.frames) == (768, 432, 14)
    assert found.source == "folder"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("svd-tx", "Did you mean svd-xt?"),
        ("tiny", "Did you mean tiny-svd?"),
        ("synthetic:sdxl", "synthetic:svd"),
        ("something", "Known names are svd, svd-xt, svd-xt-1.1, animatelcm-svd-xt, tiny-svd"),
        ("/no/such/folder", "Known names are"),
    ],
)
def test_an_unknown_name_gets_a_hint(models: Path, name: str, hint: str) -> None:
    with pytest.raises(CheckpointUnknown) as unknown:
        resolve(name, models)

    assert hint in unknown.value.hint
    assert unknown.value.field == "checkpoint"
    assert not unknown.value.falls_through


@pytest.mark.parametrize(
    "name",
    [
        "svd/../../secret",
        "a/b/c",
        "..",
        "svd/..",
        ".hidden",
        "a\x00b",
        "x" * 300,
        "",
        "svd\n",
        "a//b",
    ],
)
def test_a_name_cannot_lead_out_of_the_models_folder(
    tmp_path: Path, models: Path, make_checkpoint: Make, name: str
) -> None:
    make_checkpoint(tmp_path / "secret")
    models.mkdir()

    with pytest.raises(CheckpointUnknown):
        resolve(name, models)


def test_a_service_takes_no_paths(tmp_path: Path, models: Path, make_checkpoint: Make) -> None:
    folder = make_checkpoint(tmp_path / "elsewhere")

    for path in (str(folder), "./elsewhere", "../elsewhere", "~/elsewhere"):
        with pytest.raises(CheckpointUnknown, match="is a path"):
            resolve(path, models, allow_paths=False)


def test_known_but_not_installed_says_how_to_get_it(models: Path) -> None:
    for name in ("svd", "somebody/fine-tune"):
        with pytest.raises(CheckpointUnavailable) as missing:
            resolve(name, models)
        assert type(missing.value) is CheckpointUnavailable
        assert f"svd-local models pull {name}" in missing.value.hint
    with pytest.raises(CheckpointUnavailable) as gated:
        resolve("svd-xt-1.1", models)
    assert "licence" in gated.value.hint


def test_a_folder_that_is_no_checkpoint_is_called_so(tmp_path: Path, models: Path) -> None:
    single = tmp_path / "comfy"
    single.mkdir()
    (single / "svd_xt.safetensors").write_bytes(b"")
    (models / "svd").mkdir(parents=True)

    with pytest.raises(CheckpointBroken, match=r"single file svd_xt\.safetensors"):
        resolve(str(single), models)
    with pytest.raises(CheckpointBroken, match=r"no model_index\.json"):
        resolve("svd", models)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("svd_local.json", '{"width": 1001}'),
        ("svd_local.json", '{"height": "576"}'),
        ("svd_local.json", "[]"),
        ("svd_local.json", "{"),
        ("unet/config.json", '{"num_frames": 0}'),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(
    models: Path, make_checkpoint: Make, file: str, content: str
) -> None:
    (make_checkpoint(models / "svd") / file).write_text(content)

    with pytest.raises(CheckpointBroken, match=file):
        resolve("svd", models)


def test_made_here_are_known_before_they_exist(models: Path) -> None:
    tiny = resolve("tiny-svd", models)
    synthetic = resolve("synthetic:svd", models)

    assert (tiny.width, tiny.height, tiny.frames, tiny.synthetic) == (256, 144, 14, True)
    assert (synthetic.width, synthetic.height, synthetic.frames) == (1024, 576, 14)
    assert synthetic.path is None
    assert resolve("synthetic:svd-xt", models).frames == 25
    assert (
        len({tiny.revision, synthetic.revision, resolve("synthetic:svd-xt", models).revision}) == 3
    )
    assert not models.exists()


def test_installed_ones_are_listed_once(
    tmp_path: Path, models: Path, make_checkpoint: Make
) -> None:
    make_checkpoint(models / "svd-xt")
    make_checkpoint(models / "somebody--fine-tune")
    make_checkpoint(models / ".partial" / "svd")
    (models / "README.md").write_text("")
    for repo in ("stable-video-diffusion-img2vid", "stable-video-diffusion-img2vid-xt"):
        cached(tmp_path, make_checkpoint, f"stabilityai/{repo}", "d" * 40)

    listed = list_installed(models)

    assert [(one.name, one.source) for one in listed] == [
        ("somebody/fine-tune", "models-folder"),
        ("svd-xt", "models-folder"),
        ("svd", "hub-cache"),
    ]
    assert json.dumps([one.to_json() for one in listed])
    nowhere = list_installed(tmp_path / "nowhere")
    assert [one.name for one in nowhere] == ["svd", "svd-xt"]


def test_a_pull_goes_to_the_alias_or_the_repositorys_folder() -> None:
    assert pull_name("stabilityai/stable-video-diffusion-img2vid") == "svd"
    assert pull_name("somebody/fine-tune") == "somebody--fine-tune"


def test_finding_and_verifying_loads_no_torch(models: Path, make_checkpoint: Make) -> None:
    make_checkpoint(models / "svd")
    program = (
        "import sys; from pathlib import Path\n"
        "from svd_local.engine.checkpoints import resolve, list_installed\n"
        "from svd_local.engine.verify import verify\n"
        "from svd_local.engine.sizes import sizes_of\n"
        "from svd_local.tiers.local import LocalTier\n"
        "models = Path(sys.argv[1])\n"
        "one = resolve('svd', models); one.revision; list_installed(models); verify(one); sizes_of(one)\n"
        "LocalTier(models_dir=models).availability()\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'accelerate', 'huggingface_hub'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(models)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_tiny_is_the_same_before_and_after_it_is_made_but_not_when_changed(models: Path) -> None:
    from svd_local.engine import tiny

    before = resolve("tiny-svd", models).revision
    folder = tiny.ensure(models)
    assert resolve("tiny-svd", models).revision == before
    assert resolve(str(folder), models).synthetic
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.013"))
    assert resolve("tiny-svd", models).revision != before
