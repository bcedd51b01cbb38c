"""``--help`` of commands with many options, in groups by what the options are for."""

from __future__ import annotations

from typing import Final

import click

_OTHERS = "Options"
#: Title -> options of any command, in the order of the help.
GROUPS: Final[dict[str, str]] = {
    "Input and output": "--config --model --pool --train --valid --data --scores --run-dir --init "
    "--out --rest --resume --overwrite --shard --limit --format --table --show --save-minutes "
    "--set --units --dry-run --figures --paper --audio --no-audio",
    "New models": "--preset --cell --dropout --vocabulary",
    "Texts": "--lowercase --skip-unwritable --latest --keep-empty",
    "Training": "--max-epochs --patience --monitor --optimizer --learning-rate --weight-decay "
    "--schedule --warm-up-epochs --max-grad-norm --spec-augment --speed-perturb",
    "What to pick": "--budget --strategy --cost --batch --share --per --exclude --confidence "
    "--effort",
    "Typicality and the gate": "--typicality --drop-atypical --min-typicality --keep-group",
    "Scores": "--k --beam-width --method --tolerance --probes --full --full-samples "
    "--per-hypothesis --word-confidence --mc-dropout --by-layer --params",
    "Audit": "--audit --draws",
    "Label Studio": "--audio-url --audio-root --from-name --to-name",
    "Long, slow, and broken recordings": "--max-duration --read-timeout --segment",
    "Machine": "--device --threads --memory --precision --batch-seconds --jobs",
    "Ray": "--engine --address --workers --gpus-per-worker --worker",
    "Other": "--seed --json --report-to --log-json --metrics --quiet --help",
}
#: With fewer options, groups say nothing that a list does not.
FEWEST = 15


class GroupedCommand(click.Command):
    """A command that lists its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups in which the command has options."""
        found = {
            next((name for name in param.opts if name.startswith("--")), param.opts[0]): record
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            and (record := param.get_help_record(ctx)) is not None
        }
        sections = {}
        if len(found) >= FEWEST:
            for title, names in GROUPS.items():
                sections[title] = [found.pop(name) for name in names.split() if name in found]
        sections[_OTHERS] = list(found.values())
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
