"""From the texts of flags, variables and config files to the settings of an engine."""
