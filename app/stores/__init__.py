"""Where runs and their logs are kept."""
