#!/usr/bin/env bash
# oracle.sh TRILL: holds the binary (a runner may stand before it) against the oracle of tests/oracle.
#
# Needs numpy, regex and jinja2, and installs them into target/oracle-venv if no .venv has them.
set -euo pipefail
cd "$(dirname "$0")/.."
trill=$1

python=
for candidate in .venv/bin/python target/oracle-venv/bin/python; do
  if "$candidate" -c 'import numpy, regex, jinja2' 2>/dev/null; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
  echo "installing numpy, regex and jinja2 into target/oracle-venv"
  python3 -m venv target/oracle-venv
  python=target/oracle-venv/bin/python
  "$python" -m pip install -q --disable-pip-version-check numpy==2.4.6 regex==2026.11.15 jinja2==3.1.6
fi

run() {
  echo "== $*"
  local log status=0
  log=$(mktemp)
  "$python" tests/oracle/"$1" "${@:2}" | tee "$log" || status=$?
  # The form in which `make test` counts.
  sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/test result: ok. \1 passed; \2 failed/p' "$log"
  rm -f "$log"
  return "$status"
}

run check.py
run compare.py --trill "$trill" --seeds "${SEEDS:-1}"
# Some of the layers, unless more than one seed is asked for.
run layers.py --trill "$trill" --seeds "${SEEDS:-1}" --every "$([ "${SEEDS:-1}" = 1 ] && echo 7 || echo 1)"
run hf.py check --trill "$trill" --large packed
run stories.py check --trill "$trill"
run files.py --trill "$trill" --full
run chat.py --trill "$trill" --model "${TRILL_TEST_MODEL:-}"
