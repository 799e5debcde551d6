#!/usr/bin/env bash
# A day at a plant with simulated machines, from the first training to a rollback, on loopback: about ten minutes on two
# cores. Everything goes to a folder of its own, .asd/day, which is made anew. With Chromium and playwright it takes
# pictures of both user interfaces.
#
#     . .venv/bin/activate && bash examples/a_day_at_the_plant.sh
set -euo pipefail
cd "$(dirname "$0")/.."
day="$PWD/.asd/day"
rm -rf "$day"
mkdir -p "$day/arriving/simFan"
export ASD_HOME="$day/home"
settings=(--preset demo --set training.epochs=8 --set normality.false_alarm_rate=0.05)

say() { printf '\n=== %s  %s\n' "$(date +%T)" "$*"; }
until_it_says() { # FILE TEXT: wait until a log has it
    for _ in $(seq 300); do grep -q "$2" "$1" && return; sleep 1; done
    echo "$1 never said: $2"; tail -20 "$1"; exit 1
}
until_judged() { # wait until the gate has judged a challenger, and nothing waits to be registered
    for _ in $(seq 450); do
        if compgen -G "$ASD_HOME/runs/judgements/*.json" > /dev/null \
            && ! compgen -G "$ASD_HOME/runs/registrations/*.json" > /dev/null; then
            return
        fi
        sleep 2
    done
    echo "no challenger was judged"; tail -20 "$day/worker.log"; exit 1
}
# The last one first.
end() {
    for job in $(jobs -p | tac); do
        kill "$job" 2> /dev/null || true; wait "$job" 2> /dev/null || true
    done
}
trap end EXIT

say "06:00 in the story. The servers start; every flow is deployed; a worker waits"
asd ui --prefect-port 0 --mlflow-port 0 > "$day/ui.log" 2>&1 &
until_it_says "$day/ui.log" "export PREFECT_API_URL"
export PREFECT_API_URL=$(grep -o 'http://[^ ]*/api' "$day/ui.log")
prefect_ui=${PREFECT_API_URL%/api}
mlflow_ui=$(awk '$1 == "mlflow" {print $2}' "$day/ui.log")
asd deploy "${settings[@]}" --retrain-after 30
asd worker > "$day/worker.log" 2>&1 &

say "07:00. The first detector, from what was recorded so far"
asd simulate "$day/plant" --machines simFan,simValve --seconds 2
asd retrain --recordings "$day/plant" "${settings[@]}"

say "09:00. The recorder of simFan delivers 40 new recordings; the folder is watched"
asd simulate "$day/recorder" --machines simFan --seconds 2 --seed 1 > /dev/null
asd watch "$day/arriving" --quiet 3 > "$day/watch.log" 2>&1 &
until_it_says "$day/watch.log" Watching
find "$day/recorder/simFan/train" -name '*_source_*' | sort | head -40 | xargs cp -t "$day/arriving/simFan"
until_it_says "$day/watch.log" "new recordings"
cat "$day/watch.log"
say "They are judged; enough are normal: a retraining starts by itself, and the gate judges the challenger"
until_judged
asd models
asd models --diff 1 2

say "11:00. Somebody calls an hour of noise normal recordings of simFan: the champion doubts it, the gate refuses it"
mkdir -p "$day/mistake/simFan"
python - "$day/mistake/simFan" <<'PYTHON'
import sys
import numpy as np
import soundfile
rng = np.random.default_rng(0)
for i in range(40):
    soundfile.write(f"{sys.argv[1]}/{i}.wav", rng.uniform(0.02, 0.3) * rng.standard_normal(32_000).clip(-3, 3), 16_000)
PYTHON
asd ingest "$day/mistake"
asd label --pending --machine simFan --as normal --by "somebody in a hurry"
asd retrain --machines simFan,simValve "${settings[@]}" | grep -E "^(gate|registry)"
say "The mistake is settled: these recordings are not normal"
asd label "$day/mistake" --as anomaly --by "the shift leader"

say "14:00. simFan gets a fault; its recordings arrive"
asd simulate "$day/fault" --machines simFan --seconds 2 --seed 2 --strength 3 > /dev/null
n=0
for file in "$day"/fault/simFan/test/*_anomaly_*.wav; do
    n=$((n + 1)); cp "$file" "$day/arriving/simFan/afternoon_$n.wav"
done
for _ in $(seq 60); do
    asd label > "$day/waiting.txt"
    grep -q "detector 2" "$day/waiting.txt" && break  # The worker has judged them.
    sleep 5
done
head -12 "$day/waiting.txt"
status=0
asd score "$day"/arriving/simFan/afternoon_{1..5}.wav --machine simFan --explain || status=$?
echo "exit code $status"
test "$status" -eq 3

say "16:00. The engineer would rather have yesterday's detector back; and then not"
asd rollback
asd promote 2
asd models
if command -v chromium > /dev/null && python -c 'import playwright' 2> /dev/null; then
    say "What one sees in the user interfaces"
    python docs/pictures/screenshots.py "$prefect_ui" "$mlflow_ui" "$day/pictures"
fi
say "The day is over"
