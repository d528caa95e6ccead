"""The compression job on networks of each kind: what it learns from, what it measures, and that it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from within.core.errors import WithinError
from within.core.pruning import load
from within.core.solve import InfeasibleBudget
from within.lowlevel.compress import main
from within.lowlevel.data.images import write_image
from within.lowlevel.data.sample_images import sample_image
from within.lowlevel.fit_memory import fit_memory
from within.lowlevel.models import build
from within.lowlevel.named_network import open_network

SMALL = {
    "size": (64, 64), "runtime": None, "step": 1, "calibration": 8,
    "fine_tuning": {"iterations": 2, "batch_size": 2, "patch_size": 16},
}  # fmt: skip
KINDS = {
    "noise level told": ("ffdnet_gray", {"width": 8, "depth": 3}, {"sigma": 15.0}, "PSNR on test, sigma 15"),
    "super-resolution": ("imdn_x2", {"width": 16, "depth": 2}, {}, "PSNR of luma"),
    "no degradation known": ("dce_net", {"width": 8}, {}, "against the dense network"),
    "degraded already": ("unet_denoise", {"widths": (8, 12)}, {"degraded": True}, "against the dense network"),
}


def _job(tmp_path: Path, network: str, arguments: dict, **settings) -> dict:
    torch.manual_seed(0)
    save_file(build(network, **arguments).state_dict(), tmp_path / "dense.safetensors")
    return {
        **SMALL, "network": network, "arguments": arguments, "weights": str(tmp_path / "dense.safetensors"),
        "images": str(_photographs(tmp_path / "train", ("coins", "chelsea"))),
        "test": str(_photographs(tmp_path / "test", ("camera", "coffee"))),
        "fraction": 0.8, **settings,
    }  # fmt: skip


def _photographs(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        image = sample_image(name)[:96, :96]
        write_image(folder / f"{name}.png", image if image.shape[-1] == 3 else image.repeat(3, axis=-1))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_can_be_compressed(kind, tmp_path) -> None:
    """Would catch a job that makes the wrong input for a network, or says nothing of its quality."""
    network, arguments, settings, quality = KINDS[kind]
    done = main(_job(tmp_path, network, arguments, **settings), run_directory=tmp_path / "run")
    assert done.fit.peak <= 0.8 * done.dense_peak
    assert any(quality in row.name for row in done.content.quality), [row.name for row in done.content.quality]
    again = load(tmp_path / "run", lambda: build(network, **arguments)).eval()
    inputs = (torch.rand(1, 1 if network == "ffdnet_gray" else 3, 64, 64), torch.full((1, 1, 1, 1), 0.1))
    inputs = inputs if "noise" in kind else inputs[:1]
    with torch.no_grad():
        first, second = done.model(*inputs), again(*inputs)
    for a, b in zip(*(torch.utils._pytree.tree_leaves(each) for each in (first, second)), strict=True):
        assert torch.equal(a, b)


def test_a_run_is_compressed_further(tmp_path) -> None:
    """Would catch a plan that forgets the first cut."""
    job = _job(tmp_path, "unet_denoise", {"widths": (8, 12)}, sigma=25.0, test=None)
    first = main(job, run_directory=tmp_path / "first")
    again = {**job, "network": str(tmp_path / "first"), "weights": None, "arguments": {}}
    second = main(again, run_directory=tmp_path / "second")
    assert second.fit.peak <= 0.8 * first.fit.peak
    assert json.loads((tmp_path / "second" / "plan.json").read_text())["provenance"]["network"] == "unet_denoise"
    named = open_network(tmp_path / "second")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(named.model.eval()(image), second.model(image))


def test_a_denoiser_without_sigma_is_refused_before_anything_is_written(tmp_path) -> None:
    job = _job(tmp_path, "unet_denoise", {"widths": (8, 12)})
    with pytest.raises(WithinError, match="noise it shall remove"):
        main(job, run_directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_killed_job_resumes_to_the_same_bits(tmp_path) -> None:
    """Would catch anything random that a resumed job draws anew, and fine-tuning that starts from the beginning."""
    tuning = {"iterations": 6, "batch_size": 2, "patch_size": 16, "checkpoint_every": 2}
    job = _job(tmp_path, "unet_denoise", {"widths": (8, 12)}, sigma=25.0, fine_tuning=tuning)
    whole = main(job, run_directory=tmp_path / "whole")
    (tmp_path / "job.json").write_text(json.dumps(job))
    code = (
        "import json, os, signal, sys\nfrom pathlib import Path\nfrom within.core.train import fit\n"
        "from within.lowlevel import compress, fine_tune\nfrom mmengine.hooks import Hook\n"
        "class Die(Hook):\n    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):\n"
        "        if runner.iter == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fine_tune.fit = lambda *given, **options: fit(*given, **options | {'hooks': [Die()]})\n"
        "folder = Path(sys.argv[1])\n"
        "compress.main(json.loads((folder / 'job.json').read_text()), run_directory=folder / 'killed')"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    assert list((tmp_path / "killed" / "fine_tuning").rglob("iteration_*.pth"))
    assert not (tmp_path / "killed" / "report.html").exists()
    with pytest.raises(WithinError, match="exists and is not empty"):
        main(job, run_directory=tmp_path / "killed")
    again = main(job, run_directory=tmp_path / "killed", resume=True)
    assert (tmp_path / "killed" / "report.html").is_file()
    first, second = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_damaged_inputs_stop_the_job_before_it_starts(tmp_path) -> None:
    """Would catch NaN that spreads silently into the compressed network."""
    job = _job(tmp_path, "unet_denoise", {"widths": (8, 12)}, sigma=25.0)
    model = build("unet_denoise", widths=(8, 12))
    state = model.state_dict()
    first = next(iter(state))
    state[first].view(-1)[0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(WithinError, match="NaN"):
        main(job | {"weights": str(tmp_path / "nan.safetensors")}, run_directory=tmp_path / "run")
    with pytest.raises(WithinError, match="NaN"):
        fit_memory(model, (torch.zeros(1, 3, 64, 64),), [torch.full((2, 3, 32, 32), float("nan"))], 1e6)
    with pytest.raises(InfeasibleBudget, match="No choice fits"):
        main(job | {"fraction": 0.01}, run_directory=tmp_path / "tight")
    assert not (tmp_path / "tight").exists()
    (Path(job["images"]) / "broken.png").write_bytes(b"no image")
    with pytest.raises(WithinError, match=r"broken\.png"):
        main(job, run_directory=tmp_path / "broken")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "broken").exists()
