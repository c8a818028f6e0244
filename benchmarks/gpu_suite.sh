#!/usr/bin/env bash
# Every test marked gpu and every GPU benchmark, in one call of under 9 minutes on a bare CUDA machine.
#
#     [OUT=folder] [WHEELS=folder] benchmarks/gpu_suite.sh
#
# Needs Python 3.12 with torch, and in $WHEELS (default: wheels/ in the repository) the wheels of what the machine
# lacks: av, torchcodec, webdataset, braceexpand, pytest, pytest-timeout ... They are installed into a folder of this
# run, without the network and without what they depend on. Where there is no wheels folder, what is installed is used.
# All output goes to $OUT (a new folder unless given): suite.log, summary.txt, and a .jsonl of each benchmark.
# Every part has a time limit and the next one runs whatever becomes of it. Exit code: 0 if all passed, else 1.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

PYTHON=${PYTHON:-python3}
WHEELS=${WHEELS:-wheels}
OUT=${OUT:-$(mktemp -d)}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$OUT"
SITE=$WORK/site
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH="$SITE:$PWD${PYTHONPATH:+:$PYTHONPATH}"
LIMIT=530 # seconds for everything
failed=0
: >"$OUT/summary.txt"
: >"$OUT/suite.log"

left() { echo $((LIMIT - SECONDS)); }

# part NAME SECONDS COMMAND...: runs it under a time limit that never goes past the whole one, and notes how it went.
part() {
  local name=$1 limit=$2 code begin=$SECONDS
  shift 2
  [ "$limit" -gt "$(left)" ] && limit=$(left)
  if [ "$limit" -lt 5 ]; then
    echo "NO TIME  $name" | tee -a "$OUT/summary.txt"
    failed=1
    return
  fi
  echo "==== $name" | tee -a "$OUT/suite.log"
  timeout --kill-after=5 "$limit" "$@" >"$WORK/log" 2>&1
  code=$?
  cat "$WORK/log" >>"$OUT/suite.log"
  tail -n 25 "$WORK/log"
  case $code in
    0) echo "passed   $name ($((SECONDS - begin)) s)" ;;
    124 | 137) echo "TIMED OUT $name after $limit s" ;;
    *) echo "FAILED   $name, exit code $code ($((SECONDS - begin)) s)" ;;
  esac | tee -a "$OUT/summary.txt"
  [ "$code" -eq 0 ] || failed=1
}

install() {
  local found=("$WHEELS"/*.whl)
  if [ ! -e "${found[0]}" ]; then
    echo "no wheels in '$WHEELS': what is installed is used"
    return 0
  fi
  "$PYTHON" -m pip install --quiet --no-index --find-links "$WHEELS" --no-deps --no-compile --target "$SITE" "${found[@]}"
}
export WHEELS PYTHON SITE
export -f install
part install 90 bash -c install

# torchcodec looks for FFmpeg's shared libraries by their plain names; PyAV's wheel brings them under others.
libraries() {
  local folder name
  folder=$("$PYTHON" - <<'PY'
import importlib.util, pathlib
spec = importlib.util.find_spec("av")
print(pathlib.Path(spec.origin).parents[1] / "av.libs" if spec else "")
PY
)
  if [ ! -d "$folder" ]; then
    echo "PyAV's libraries are not in a folder of their own ('$folder'); torchcodec needs the system's"
    return 0
  fi
  mkdir -p "$LINKS"
  for file in "$folder"/*.so*; do
    ln -sf "$file" "$LINKS/$(basename "$file")" # they find each other by these names
    name=$(basename "$file")
    if [[ $name =~ ^lib(av[a-z]+|sw[a-z]+)-[0-9a-f]+\.so\.([0-9]+) ]]; then
      ln -sf "$file" "$LINKS/lib${BASH_REMATCH[1]}.so.${BASH_REMATCH[2]}"
    fi
  done
  echo "plain names: $(cd "$LINKS" && ls | grep -v -- - | tr '\n' ' ')"
}
export LINKS=$WORK/ffmpeg
export -f libraries
part libraries 20 bash -c libraries
[ -d "$LINKS" ] && export LD_LIBRARY_PATH="$LINKS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

part doctor 90 "$PYTHON" -m pipelines.cli doctor
# Just the files with such tests: the others may import what a bare machine has not.
mapfile -t files < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
part gpu_tests 200 "$PYTHON" -m pytest -m gpu -q --durations=10 -p no:cacheprovider "${files[@]}"
part gpu_decode 150 "$PYTHON" benchmarks/gpu_decode.py --seconds 2 --rounds 3 --out "$OUT/gpu_decode.jsonl"

# Further benchmarks on the GPU: every benchmarks/gpu_*.py takes --out and says by its exit code whether all is well.
for file in benchmarks/gpu_*.py; do
  name=$(basename "$file" .py)
  [ "$name" = gpu_decode ] && continue
  part "$name" 120 "$PYTHON" "$file" --out "$OUT/$name.jsonl"
done

echo "---- summary: $SECONDS s, output in $OUT"
cat "$OUT/summary.txt"
exit "$failed"
