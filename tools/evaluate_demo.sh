#!/bin/sh
# The demo's model before and after training, in one report: preference accuracy, win rates by a reward model and by a
# rule, TruthfulQA, over-refusal.
#
#   tools/evaluate_demo.sh DATA FOLDER [ITEMS]
#
#   DATA      folder with truthfulqa_mc_task.json, TruthfulQA.csv and xstest_prompts.csv
#   FOLDER    for the runs and results; what is there already is not computed again
#   ITEMS     of each benchmark and prompts of the win rates (100)
#
# PALATE is the command (palate), STEPS the training steps of the demo (75).
set -eu

data=$1
folder=$2
items=${3:-100}
palate=${PALATE:-palate}
here=$(dirname "$0")/..
base=smollm2-135m-instruct
results=$folder/results

[ -f "$folder/demo/accuracy.json" ] || $palate demo --output "$folder/demo" --steps "${STEPS:-75}"
[ -f "$folder/reward/README.md" ] || $palate train "$here/configs/smollm_reward.yaml" \
    --set output_dir="$folder/reward" --set max_steps="${STEPS:-60}" --set overwrite_output_dir=true

$palate eval accuracy "$folder/demo" --by kind
for judge in "$folder/reward" "lexicon:AI,program,body,myth,error,false,wrong,-yes"; do
    case $judge in lexicon*) name=rule ;; *) name=reward ;; esac
    $palate eval winrate "$folder/demo" "$base" --prompts palate-demo-heldout --max-samples "$items" \
        --max-new-tokens 64 --judge "$judge" --by kind --output "$results/$name"
done
$palate eval bench truthfulqa "$folder/demo" --data "$data" --max-samples "$items" --output "$results"
$palate eval bench xstest "$folder/demo" --data "$data" --max-samples "$items" --max-new-tokens 64 --output "$results"

$palate report "$folder/demo" --results "$results"
