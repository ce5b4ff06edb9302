#!/bin/sh
# Set-up: a virtual environment in .venv with the pinned packages, and dbt's manifest. Called by make; safe to repeat.
#   sh setup.sh        what `make run` needs
#   sh setup.sh dev    what `make test` needs as well
set -eu
cd "$(dirname "$0")"
say() { echo "hybrid-assets: $*" >&2; }

command -v make >/dev/null 2>&1 || say "make is missing: install it (Debian: apt install make, macOS: xcode-select --install), or use .venv/bin/hybrid directly."

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
if [ ! -x .venv/bin/python ]; then
    chosen=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if fits "$candidate"; then chosen=$candidate; break; fi
    done
    if [ -z "$chosen" ]; then
        if command -v "${PYTHON:-python3}" >/dev/null 2>&1; then
            say "Python 3.11, 3.12 or 3.13 is needed, found only $("${PYTHON:-python3}" --version 2>&1): install one, or name it with PYTHON=/path/to/python."
        else
            say "Python is missing: install Python 3.11, 3.12 or 3.13, or name it with PYTHON=/path/to/python."
        fi
        exit 1
    fi
    [ -w . ] || { say "this folder cannot be written: copy the checkout to a folder of your own."; exit 1; }
    say "making .venv with $("$chosen" --version)"
    "$chosen" -m venv .venv || { say "the virtual environment could not be made: install your system's python venv package."; exit 1; }
elif ! fits .venv/bin/python; then
    say "the Python in .venv is not 3.11 to 3.13: delete .venv and run make again."
    exit 1
fi

what=.; [ "${1:-}" = dev ] && what='.[dev]'
wanted=$(cat pyproject.toml constraints.txt | cksum)" $what"
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ] && [ "$(cat .venv/installed 2>/dev/null)" != "$(cat pyproject.toml constraints.txt | cksum) .[dev]" ]; then
    say "installing the pinned packages (a few minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$what" || { say "the packages could not be installed: look at pip's message above, then run make again."; exit 1; }
    echo "$wanted" > .venv/installed
fi
# compiled once, so that no job's budget pays for it; again when a compiled module changes
loops=$(grep -rl --include='*.py' njit hybrid_assets resources | LC_ALL=C sort | xargs cat | cksum)
if [ "$(cat .venv/compiled 2>/dev/null)" != "$loops" ]; then
    say "compiling the numerical loops (a minute or two, once)"
    if .venv/bin/python -m hybrid_assets.compiling; then echo "$loops" > .venv/compiled; fi
fi
.venv/bin/python -m resources.warehouse
