#!/bin/sh
# sh tools/test_gpu.sh: the course and the recorder on a GPU, without a network, in 9 minutes.
#
# It runs where a Python has torch for the GPU at hand: PYTHON=/path/to/python, else .venv, else
# python3. What that Python lacks beside torch is taken from the folder gpu-wheels (git ignores it;
# on a machine with a network `sh tools/test_gpu.sh fetch` fills it, at most 60 MB) and put into a
# folder of its own, so that nothing is installed. COURSE_DEVICE=cpu tries everything without a GPU.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

wheels=gpu-wheels
needed="numpy matplotlib ipywidgets anywidget scikit-learn pooch tqdm pytest nbval hypothesis
  pytest-xdist ipykernel pandas"
left_out="torch jupyterlab_widgets widgetsnbextension pillow-avif"

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi

if [ "${1:-}" = fetch ]; then
  # For the Python of the GPU machine: GPU_PYTHON=3.12 by default, on Linux.
  mkdir -p "$wheels"
  # shellcheck disable=SC2086
  "$PYTHON" -m pip download -q --only-binary=:all: --python-version "${GPU_PYTHON:-3.12}" \
    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d "$wheels" $needed
  for name in $left_out; do rm -f "$wheels/$name"-*.whl; done
  size=$(du -sm "$wheels" | cut -f1)
  say "$wheels holds $size MB."
  [ "$size" -le 60 ] || { say "That is more than 60 MB."; exit 1; }
  exit 0
fi

device=${COURSE_DEVICE:-cuda}
if ! "$PYTHON" -c "import torch" 2>/dev/null; then
  say "$PYTHON has no torch. Name a Python that has it: PYTHON=/path/to/python make test-gpu"
  exit 1
fi
if [ "$device" = cuda ] &&
  ! "$PYTHON" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
  say "There is no GPU here that torch can use, so nothing was tested."
  say "COURSE_DEVICE=cpu make test-gpu runs the same tests on the CPU."
  exit 3
fi

extra=build/gpu-packages
missing=""
for pair in numpy:numpy matplotlib:matplotlib ipywidgets:ipywidgets anywidget:anywidget \
  scikit-learn:sklearn pooch:pooch tqdm:tqdm pytest:pytest nbval:nbval hypothesis:hypothesis \
  pytest-xdist:xdist ipykernel:ipykernel; do
  PYTHONPATH="$extra" "$PYTHON" -c "import ${pair#*:}" 2>/dev/null || missing="$missing ${pair%:*}"
done
if [ -n "$missing" ]; then
  if ! ls "$wheels"/*.whl >/dev/null 2>&1; then
    say "Missing:$missing. Fill the folder $wheels where there is a network, and copy it here:"
    say "  sh tools/test_gpu.sh fetch"
    exit 1
  fi
  # Wheels are unpacked one by one: what was left out is not asked for again.
  for wheel in "$wheels"/*.whl; do
    "$PYTHON" -m pip install -q --no-index --no-deps --upgrade --target "$extra" "$wheel"
  done
fi

PYTHONPATH="$PWD:$PWD/$extra${PYTHONPATH:+:$PYTHONPATH}"
COURSE_DEVICE=$device
OMP_NUM_THREADS=1
export PYTHONPATH COURSE_DEVICE OMP_NUM_THREADS

"$PYTHON" -m benchmarks gpu_recording

# The limit leaves a minute of the nine for what came before; GPU_TESTS chooses others.
status=0
# shellcheck disable=SC2086
timeout "${GPU_SECONDS:-480}" "$PYTHON" -m pytest -q -p no:cacheprovider -n "${GPU_PROCESSES:-8}" \
  --dist loadscope --no-loadscope-reorder ${GPU_TESTS:-notebooks tests/recording} || status=$?
[ "$status" != 124 ] || say "The tests ran past their ${GPU_SECONDS:-480} seconds."
exit "$status"
