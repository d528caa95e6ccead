#!/usr/bin/env bash
# Installs MMDetection3D 1.4.0 (with mmcv 2.1.0, mmdet 3.3.0, spconv 2.3.8 and nuScenes' development kit) into
# $MMDET3D_ENV, a virtual environment layered over $VENV: it sees every package of $VENV and adds its own, so torch is
# installed once and stays the one of $VENV. mmcv's operators are compiled here for the CPU, which takes some minutes.
#
# The big packages go in with --no-deps and their light dependencies by name: torchvision, open3d and a torch with CUDA
# libraries, which they ask for, are not needed. `pip check` complains in this environment; that is expected.
# Running this twice changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
MMDET3D_ENV=${MMDET3D_ENV:-.venv-mmdet3d}
export PIP_CONSTRAINT="$PWD/constraints.txt"
export PIP_DISABLE_PIP_VERSION_CHECK=1
export MAX_JOBS=${MAX_JOBS:-1}

torch_version() { "$1/bin/python" -c 'import torch; print(torch.__version__)'; }

test -x "$VENV/bin/python" || { echo "There is no $VENV; run 'make setup' first." >&2; exit 2; }
test -x "$MMDET3D_ENV/bin/python" || "$PYTHON" -m venv "$MMDET3D_ENV"

# addsitedir, not a plain path: it also obeys the .pth files of $VENV, through which the workspace packages are found.
base=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
site=$("$MMDET3D_ENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf 'import site; site.addsitedir(%s)\n' "'$base'" > "$site/over_main_environment.pth"

install() { "$MMDET3D_ENV/bin/python" -m pip install --quiet "$@"; }
has() { "$MMDET3D_ENV/bin/python" -c 'import importlib.metadata as m, sys; sys.exit(m.version(sys.argv[1]) != sys.argv[2])' "$@" 2>/dev/null; }

install --upgrade "setuptools>=75,<81" wheel ninja
install addict yapf packaging opencv-python pycocotools shapely six terminaltables tqdm plyfile scikit-image \
    scikit-learn pandas trimesh tensorboard networkx pyquaternion fire cachetools descartes parameterized lmdb future
install spconv

# mmcv is a source distribution whose setup.py imports torch: build it here, where torch is, not in isolation.
has mmcv 2.1.0 || MMCV_WITH_OPS=1 FORCE_CUDA=0 CFLAGS=-g0 install --no-deps --no-build-isolation mmcv==2.1.0
install --no-deps mmdet==3.3.0 mmdet3d==1.4.0 nuscenes-devkit==1.2.0 lyft-dataset-sdk==0.0.8

before=$(torch_version "$VENV")
after=$(torch_version "$MMDET3D_ENV")
test "$before" = "$after" || { echo "torch changed from $before to $after in $MMDET3D_ENV." >&2; exit 1; }
"$MMDET3D_ENV/bin/python" -W ignore -c 'import mmcv.ops, spconv.pytorch; from mmdet3d.utils import register_all_modules; register_all_modules()'
echo "$MMDET3D_ENV: mmdet3d 1.4.0, mmcv 2.1.0, mmdet 3.3.0 and spconv 2.3.8 over torch $after"
