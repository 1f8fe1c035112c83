#!/bin/sh
# Open JupyterLab on the first notebook, for `make lab`. Options are handed to JupyterLab.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" = 0 ]; then
  set -- --allow-root "$@" # containers; Jupyter refuses to run as root without it
fi
if [ "$(uname -s)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}${BROWSER:-}" ]; then
  set -- --no-browser "$@" # no screen here: Jupyter prints the address to open elsewhere
fi
exec .venv/bin/python -m jupyterlab --ServerApp.root_dir=. \
  --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb "$@"
