import pytest
import torch

from svd_local.engine.architecture import COMPONENTS, Architecture, build, full_size, tiny


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [(full_size(25), (1524.6, 97.7, 632.1)), (tiny(), (6.0, 1.6, 0.3))],
    ids=["full size", "tiny"],
)
def test_parameter_counts_are_what_is_written(
    architecture: Architecture, millions: tuple[float, float, float]
) -> None:
    with torch.device("meta"):
        pipeline = build(architecture)

    networks = {name: getattr(pipeline, name) for name in COMPONENTS}
    counts = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
    largest = max(p.numel() for net in networks.values() for p in net.parameters())

    assert counts == dict(architecture.parameters)
    assert largest == architecture.largest_tensor
    assert tuple(round(counts[name] / 1e6, 1) for name in COMPONENTS) == millions


def test_tiny_has_the_real_ones_classes_and_blocks() -> None:
    with torch.device("meta"):
        small, real = build(tiny()), build(full_size(14))

    def kinds(network: torch.nn.Module) -> set[str]:
        return {type(part).__name__ for part in network.modules()}

    for name in COMPONENTS:
        assert kinds(getattr(small, name)) == kinds(getattr(real, name))
    for blocks in ("down_block_types", "up_block_types"):
        assert list(small.unet.config[blocks]) == list(real.unet.config[blocks])
    assert small.scheduler.config == real.scheduler.config
    assert small.image_encoder.config.image_size == real.image_encoder.config.image_size == 224
