#!/bin/sh
# sh tools/install.sh lab|test: make .venv and install the course into it, for `make`.
# .venv/.installed-* is written only after everything went well, so an interrupted
# installation is taken up again by the next call.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

case "${1:-}" in
  lab) what=".[lab]" ;;
  test) what=".[test]" ;;
  *) say "usage: sh tools/install.sh lab|test"; exit 2 ;;
esac

# Says why a Python cannot be used; silent if it can.
objection() {
  "$1" - 2>/dev/null <<'PYTHON' || echo "does not run"
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    print("is Python %d.%d" % sys.version_info[:2])
else:
    try:
        import ensurepip, venv
    except ImportError:
        print("is Python %d.%d without venv" % sys.version_info[:2])
PYTHON
}

# The first Python that can be used, or every reason why there is none.
find_python() {
  reasons=""
  if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
  else
    set -- python3 python3.13 python3.12 python3.11
  fi
  for candidate in "$@"; do
    if ! command -v "$candidate" >/dev/null 2>&1; then
      [ -z "${PYTHON:-}" ] || reasons="  $candidate is not there"
      continue
    fi
    why=$(objection "$candidate")
    [ -n "$why" ] || { found=$candidate; return 0; }
    reasons="${reasons:+$reasons
}  $candidate $why"
  done
  say "The course needs Python 3.11, 3.12 or 3.13 with its venv module. Tried:"
  say "${reasons:-  no python3 on this machine}"
  case "$reasons" in
    *"without venv"*) say "On Debian and Ubuntu: sudo apt install python3-venv (or python3.12-venv, …)." ;;
  esac
  say "Install one of them, or name it: PYTHON=/path/to/python3.12 make lab"
  exit 1
}

if [ -e .venv/bin/python ] && [ -n "$(objection .venv/bin/python)" ]; then
  say "The folder .venv holds a Python that $(objection .venv/bin/python);"
  say "the course needs 3.11 to 3.13. Remove the folder .venv and call make again."
  exit 1
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  found=""
  find_python
  say "Making .venv with $("$found" --version) …"
  "$found" -m venv --clear .venv || {
    rm -rf .venv
    say "python -m venv failed, see above. README.md, section Troubleshooting, may help."
    exit 1
  }
fi

rm -f .venv/.installed-lab .venv/.installed-test
# TORCH=2.6.* takes that torch, TORCH=newest the newest of everything; the workflows test both.
constraints=constraints.txt
case "${TORCH:-}" in
  "") ;;
  newest) constraints=/dev/null ;;
  *) # torch pins its own sympy and triton
    constraints=.venv/constraints.txt
    sed "/^sympy==/d; /^triton==/d; s/^torch==.*/torch==$TORCH/" constraints.txt > "$constraints" ;;
esac
quiet=""
[ -t 1 ] || quiet="--quiet"
say "Installing into .venv. The first time this takes minutes and about 2 GB of disk …"
# shellcheck disable=SC2086
.venv/bin/python -m pip install $quiet --constraint "$constraints" --editable "$what" || {
  say "The installation did not finish. Without a network, behind a proxy or out of disk?"
  say "README.md, section Troubleshooting, says what to do. Call make again to go on."
  exit 1
}
pwd -P | tr -d '\n' > .venv/.folder
touch .venv/.installed-lab
[ "$1" = lab ] || touch .venv/.installed-test
say "Installed."
