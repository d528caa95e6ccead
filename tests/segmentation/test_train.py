"""Training: the best weights are kept, interruptions cost nothing, and every start is the one that was asked for."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from tests.segmentation.segmentation_data import ARGUMENTS, small_data

from within.core.cli.configuration import read_dataclass
from within.core.errors import WithinError
from within.segmentation.label_map import CAMVID
from within.segmentation.models import build
from within.segmentation.named_network import open_network
from within.segmentation.train import main, start
from within.segmentation.training_settings import TrainingSettings
from within.segmentation.weights.encoder_layout import load_encoder

SCHEDULE = {"iterations": 6, "batch_size": 2, "crop": [64, 64], "scale": (0.5, 1.5), "workers": 0}


def settings(folder, **changed):
    return {
        "name": "small", "network": "swiftnet_rn18", "arguments": ARGUMENTS, "data": str(folder),
        "schedule": SCHEDULE, "validate_every": 1, **changed,
    }  # fmt: skip


def test_the_best_weights_are_kept_and_the_run_can_be_opened(tmp_path):
    data = small_data(tmp_path / "data")
    result = main(settings(data), run_directory=tmp_path / "run")
    best = json.loads((tmp_path / "run" / "best.json").read_text())["mIoU"]
    assert best == max(figures["mIoU"] for _, figures in result.metrics)
    opened = open_network(tmp_path / "run")
    assert (opened.name, opened.arguments) == ("swiftnet_rn18", ARGUMENTS)
    image = 255 * torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(opened.model.eval()(image), result.model.eval()(image))


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path):
    data = small_data(tmp_path / "data", val=1)
    whole = main(settings(data, validation_split=None, checkpoint_every=2), run_directory=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        from within.core.train import loop

        original = loop.StepLoop.run_iter

        def stops(self, batch):
            if self._iter == 4:
                raise KeyboardInterrupt
            original(self, batch)

        patch.setattr(loop.StepLoop, "run_iter", stops)
        with pytest.raises(BaseException):  # noqa: B017
            main(settings(data, validation_split=None, checkpoint_every=2), run_directory=tmp_path / "r")
    again = main(settings(data, validation_split=None, checkpoint_every=2), run_directory=tmp_path / "r", resume=True)
    assert again.resumed_from == 4
    for one, other in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("change", [{"loss": "boundary_aware_focal"}, {"loss_stride": 2, "balance": 1.1}, {"ema": 0.9}])
def test_every_loss_trains(tmp_path, change):
    data = small_data(tmp_path / "data", val=1)
    schedule = {**SCHEDULE, "iterations": 2, **change}
    result = main(settings(data, schedule=schedule, validation_split=None), run_directory=tmp_path / "run")
    assert all(value == value for _, value in result.losses)


def test_the_loss_falls(tmp_path):
    data = small_data(tmp_path / "data", val=1)
    schedule = {**SCHEDULE, "iterations": 40, "optimizer": {"type": "AdamW", "lr": 5e-3}, "encoder_factor": 1.0}
    result = main(settings(data, schedule=schedule, log_every=10, size=(64, 96)), run_directory=tmp_path / "run")
    assert result.losses[-1][1] < 0.5 * result.losses[0][1]


def test_imagenet_weights_reach_every_level_of_the_pyramid(tmp_path):
    """In torchvision's names; the classifier is left out, the shortcut's batch norm is one."""
    model = build("swiftnet_pyramid_rn18", depth=(1, 1, 1, 1), width=8, features=16)
    names = {
        "encoder.stem.conv.": "conv1.", "encoder.stem.norm.levels.0.": "bn1.",
        **{f"encoder.stages.{stage}.": f"layer{stage + 1}." for stage in range(4)},
    }  # fmt: skip
    state = {"fc.weight": torch.zeros(10, 64), "fc.bias": torch.zeros(10)}
    for name, value in model.state_dict().items():
        for own, theirs in names.items():
            if name.startswith(own) and ".levels.1." not in name and ".levels.2." not in name:
                renamed = theirs + name.removeprefix(own).replace(".levels.0.", ".").replace("shortcut", "downsample")
                renamed = renamed.replace("norm1.", "bn1.").replace("norm2.", "bn2.")
                state[renamed] = torch.rand_like(value) if value.is_floating_point() else value
    save_file(state, tmp_path / "resnet.safetensors")
    load_encoder(model.encoder, tmp_path / "resnet.safetensors")
    block = model.encoder.stages[1][0]
    for level in range(3):
        assert torch.equal(block.norm2.levels[level].weight, state["layer2.0.bn2.weight"])
        assert torch.equal(model.encoder.stem.norm.levels[level].running_var, state["bn1.running_var"])
    assert torch.equal(block.shortcut[1].weight, state["layer2.0.downsample.1.weight"])
    del state["layer2.0.conv1.weight"]
    save_file(state, tmp_path / "incomplete.safetensors")
    with pytest.raises(WithinError, match=r"stages\.1\.0\.conv1\.weight"):
        load_encoder(model.encoder, tmp_path / "incomplete.safetensors")


def test_a_network_for_other_classes_gives_all_but_its_scores(tmp_path):
    source = build("swiftnet_rn18", **{**ARGUMENTS, "classes": 7})
    save_file(source.state_dict(), tmp_path / "other.safetensors")
    made = start(
        read_dataclass(TrainingSettings, settings("none", transfer=str(tmp_path / "other.safetensors")), "test")
    )
    assert torch.equal(made.blends[0].conv.weight, source.blends[0].conv.weight)
    assert made.logits.conv.out_channels == 11


def test_classes_of_the_same_name_keep_their_scores(tmp_path):
    """Would catch scores of another class: the network would begin by calling trees cars."""
    data = small_data(tmp_path / "data", val=1)
    source = build("swiftnet_rn18", **{**ARGUMENTS, "classes": 3})
    save_file(source.state_dict(), tmp_path / "other.safetensors")
    given = {"transfer": str(tmp_path / "other.safetensors"), "transfer_classes": ["vegetation", "terrain", "Car"]}
    made = start(read_dataclass(TrainingSettings, settings(data, **given), "test"))
    own, theirs = made.logits.conv, source.logits.conv
    assert torch.equal(own.weight[CAMVID.classes.index("tree")], theirs.weight[0])
    assert torch.equal(own.weight[CAMVID.classes.index("car")], theirs.weight[2])
    assert torch.equal(made.logits.norm.running_mean, source.logits.norm.running_mean)
    fresh = start(read_dataclass(TrainingSettings, settings(data), "test")).logits.conv
    assert torch.equal(own.weight[CAMVID.classes.index("sky")], fresh.weight[CAMVID.classes.index("sky")])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"netwrok": "x"}, "netwrok"),
        ({"schedule": {"iterations": 1, "batchsize": 3}}, "batch_size"),
        ({"schedule": {"batch_size": 3}}, "epochs or iterations"),
        ({"weights": "a", "pretrained": "b"}, "one of them"),
    ],
)
def test_bad_settings_are_named(changed, words):
    with pytest.raises(WithinError, match=words):
        read_dataclass(TrainingSettings, settings("none", **changed), "test")
