"""Lists of recordings as other toolkits keep them: one file per kind, all listed in `kinds`."""
