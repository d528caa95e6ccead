#!/usr/bin/env bash
# Installs the optional partners (timm, torchvision, torch-pruning, basicsr, NVIDIA's pytorch-quantization and Model
# Optimizer, OpenVINO with NNCF, torchao and spconv) into $PARTNERS, a virtual environment layered over $VENV: it sees
# every package of $VENV and adds its own, so torch is installed once and stays the one of $VENV.
#
# Everything goes in with --no-deps and the light dependencies by name: left to themselves, timm, torchvision and basicsr
# each replace torch by a build with several gigabytes of CUDA libraries. Running this twice changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
PARTNERS=${PARTNERS:-.venv-integrations}
export PIP_CONSTRAINT="$PWD/constraints.txt"
export PIP_DISABLE_PIP_VERSION_CHECK=1

torch_version() { "$1/bin/python" -c 'import torch; print(torch.__version__)'; }

test -x "$VENV/bin/python" || { echo "There is no $VENV; run 'make setup' first." >&2; exit 2; }
test -x "$PARTNERS/bin/python" || "$PYTHON" -m venv "$PARTNERS"

# addsitedir, not a plain path: it also obeys the .pth files of $VENV, through which the workspace packages are found.
base=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
site=$("$PARTNERS/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf 'import site; site.addsitedir(%s)\n' "'$base'" > "$site/over_main_environment.pth"

install() { "$PARTNERS/bin/python" -m pip install --quiet "$@"; }

install --no-deps timm==1.0.31 torchvision==0.28.0 torch-pruning==1.6.1
install huggingface_hub pyyaml safetensors tqdm requests pillow

# basicsr is a source distribution whose setup.py imports torch: build it here, where torch is, not in isolation.
install --upgrade "setuptools>=75,<81" wheel cython
install addict future lmdb "opencv-python<5" scikit-image scipy tensorboard yapf
"$PARTNERS/bin/python" -c 'import importlib.metadata as m; assert m.version("basicsr") == "1.4.2"' 2>/dev/null \
    || install --no-deps --no-build-isolation basicsr==1.4.2

# pytorch-quantization: exactly 2.1.3, as later versions on the index are placeholders. Model Optimizer: without its
# [onnx] extra, which replaces onnxruntime by onnxruntime-gpu.
install --no-deps pytorch-quantization==2.1.3 nvidia-modelopt==0.47.0
install absl-py omegaconf==2.4.0 pulp==3.3.2 regex nvidia-ml-py ninja

# OpenVINO and NNCF run without openvino-telemetry, which would report their use. NNCF's other needs are in $VENV.
install --no-deps openvino==2026.4.1 nncf==3.4.0 torchao==0.18.0
install --no-deps pydot==4.0.1 tabulate==0.10.0
install pyparsing

# spconv, in its build for the CPU, is what sparse convolution is compared with.
install spconv

before=$(torch_version "$VENV")
after=$(torch_version "$PARTNERS")
test "$before" = "$after" || { echo "torch changed from $before to $after in $PARTNERS." >&2; exit 1; }
! "$PARTNERS/bin/python" -c 'import onnxruntime_gpu' 2>/dev/null
echo "$PARTNERS: timm, torchvision, torch-pruning, basicsr, pytorch-quantization, modelopt, openvino, nncf, torchao and spconv over torch $after"
