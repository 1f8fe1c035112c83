#!/bin/sh
# Open JupyterLab on the first notebook, for `make lab`. Options are handed to JupyterLab.
# FOLDER=notebooks opens the chapters as they are stored; else the learner's own copy, workbook/.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" = 0 ]; then
  set -- --allow-root "$@" # containers; Jupyter refuses to run as root without it
fi
if [ "$(uname -s)" = Linux ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}${BROWSER:-}" ]; then
  set -- --no-browser "$@" # no screen here: Jupyter prints the address to open elsewhere
fi
folder=${FOLDER:-workbook}
if [ "$folder" = workbook ]; then
  .venv/bin/python tools/make_workbook.py
elif [ ! -d "$folder" ]; then
  echo "There is no folder $folder here: FOLDER=notebooks opens the chapters as they are stored." >&2
  exit 2
fi
exec .venv/bin/python -m jupyterlab --ServerApp.root_dir=. \
  --LabApp.default_url=/lab/tree/$folder/00_start_here.ipynb "$@"
