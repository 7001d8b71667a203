#!/usr/bin/env bash
# One file of requests by an array of tasks: sbatch slurm-array.sh requests.jsonl
#
# Each task does its shard, and all of them share the account's limits. Submit it again after a stop
# or a lost node: every shard goes on where it was. When all have ended:
#   headway merge requests.results.*-of-8.jsonl -o all.jsonl
#SBATCH --job-name=headway
#SBATCH --array=0-7
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail

# The address of a Valkey, a Redis or a Postgres that every node reaches. A variable, because a
# password in it would be seen in the list of processes. TOGETHER_API_KEY comes with the submission.
: "${HEADWAY_SHARED:?set it before sbatch, such as valkey://login01:6379/my-account}"

# exec: the signal before the end reaches headway, which then ends what is in flight and stops.
exec headway run "$1" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --rate 600/min --tokens 180k/min --concurrency 64 --json
