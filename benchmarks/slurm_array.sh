#!/bin/bash
# Runs the job array of docs/scale.md on a Slurm cluster of this machine alone, and compares the
# merged scores with those of a run without Slurm. One task is killed and requeued by the
# administrator, and tasks that run out of time requeue themselves.
#
# As root, in a throwaway container, after
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
export SLURM_CONF=$work/slurm.conf PATH=$work/bin:$PATH PYTHONPATH=$root OMP_NUM_THREADS=1
host=$(hostname -s)
trap 'kill $(cat "$work"/*.pid) 2>/dev/null || true; echo "left in $work"' EXIT

mkdir "$work"/{bin,state,spool}
cat > "$SLURM_CONF" << EOF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES State=UP
EOF
pgrep -x munged > /dev/null || { mkdir -p /run/munge; munged --force; }
slurmctld
sleep 2
slurmd -N "$host"

printf '#!/bin/sh\nexec "%s/.venv/bin/python" -m egl_fast "$@"\n' "$root" > "$work/bin/egl-fast"
chmod +x "$work/bin/egl-fast"
ln -s "$root/examples/base.pt" "$root/examples/audio" "$work"
cat "$root"/examples/{train,pool,test,valid}.jsonl > "$work/pool.jsonl"
cd "$work"
# The page's script, without a GPU, and with times that a small pool exceeds.
sed -n '/^## A Slurm job array/,/^```$/p' "$root/docs/scale.md" | sed '1,/^```bash/d; /^```$/d' \
    | sed -e '/gpus/d; s/1-100/1-3/; s/cpus-per-task=8$/cpus-per-task=1/; s/04:00:00/00:02:00/' > array.sh
job=$(sbatch --parsable --output="task%a.log" --open-mode=append array.sh)
until grep -q '"progress"' log.jsonl 2> /dev/null; do sleep 1; done
scontrol requeue "${job}_1"  # kills the task, too
until [ -z "$(squeue --noheader --job="$job")" ]; do
    squeue --noheader --array --job="$job" --format="%K %T %r %M" >> states.txt
    scontrol show job "$job" | grep -o "ArrayTaskId=.*\|Restarts=[0-9]*" | paste -sd " " >> restarts.txt
    for task in 1 2 3; do scontrol release "${job}_$task" 2> /dev/null || true; done
    sleep 2
done
egl-fast merge scores.?.jsonl --out scores.jsonl
egl-fast score --model base.pt --pool pool.jsonl --k 100 --threads 1 --out alone.jsonl
cmp scores.jsonl alone.jsonl
echo "$(grep -c '"stopped"' log.jsonl) times stopped, $(grep -c '"started"' log.jsonl) times started"
echo "the same scores as without Slurm: $(wc -l < scores.jsonl) recordings"
