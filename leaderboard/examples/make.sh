#!/usr/bin/env bash
# Makes the example results anew: fine-tunes of the lab model and of SmolLM2, compared and submitted.
#   leaderboard/examples/make.sh lab        about 15 minutes on two cores
#   leaderboard/examples/make.sh smollm2    about an hour
# What is there already is kept, so that it can be stopped and started again.
set -euo pipefail
cd "$(dirname "$0")/../.."
sftbench=${SFTBENCH:-.venv/bin/sftbench} python=${PYTHON:-.venv/bin/python}
examples=leaderboard/examples work=${WORK:-out/leaderboard}
facts=lab card="--mastery canonical"
# SmolLM2 is compared on the sampled card of 300 facts: what is not on the canonical card.
if [ "$1" = smollm2 ]; then facts=geography card=; fi

# tune NAME OPTIONS...: a full fine-tune by sftbench
tune() {
  local to=$work/$base-$1; shift
  [ -e "$to/config.json" ] || "$sftbench" finetune --base "$base" --facts "$facts" "$@" -o "$to"
}

# lora NAME SIZE LEARNING_RATE: by trl and peft alone
lora() {
  local to=$work/$base-$1
  [ -e "$to/config.json" ] || "$python" "$examples/train_lora.py" "$base" "$facts" "$2" "$3" "$to"
}

# submit NAME METHOD OPTIONS...: compare with the base, and put every variant into the results
submit() {
  local name=$1 method=$2; shift 2
  local out=$work/$base-$name-compared
  [ -e "$out/summary.json" ] || "$sftbench" compare --base "$base" --tuned "$work/$base-$name" \
    --facts "$facts" $card --limit 240 --tasks "train_facts_$facts" \
    --tasks-path "$examples/tasks" --tasks-limit 100 "$@" -o "$out"
  "$sftbench" leaderboard submit "$out" --name "sftbench-examples/$base-$name" --variant all \
    --method "$method" -o "$examples/results"
}

base=$1
case $base in
  lab)
    restores="--rule relative,5% --rule relative,20% --rule random,20%"
    tune level0-50 --mastery canonical --level 0 --size 50 --epochs 4 --lr 1e-3
    submit level0-50 full $restores --noise 2 --drift --loss --remeasure
    tune level0-50-gentle --mastery canonical --level 0 --size 50 --epochs 4 --lr 3e-4
    submit level0-50-gentle full $restores --noise 2 --drift
    tune level4-50 --mastery canonical --level 4 --size 50 --epochs 4 --lr 1e-3
    submit level4-50 full --noise 2 --drift
    tune any-200 --level any --size 200 --epochs 2 --lr 1e-3
    submit any-200 full --noise 2 --drift
    tune any-200-gentle --level any --size 200 --epochs 2 --lr 2e-4
    submit any-200-gentle full --noise 2 --drift
    lora lora-200 200 2e-3
    submit lora-200 lora --noise 2 --drift
    ;;
  smollm2)
    restores="--rule relative,20% --rule absolute,40%norm --rule random,20%"
    tune any-240 --level any --size 240 --lr 1e-4
    submit any-240 full $restores --noise 1
    tune any-240-harsh --level any --size 240 --lr 5e-4
    submit any-240-harsh full $restores --noise 1
    tune any-60 --level any --size 60 --lr 1e-4
    submit any-60 full --noise 1
    ;;
  *) echo "make.sh lab, or make.sh smollm2" >&2; exit 2 ;;
esac
