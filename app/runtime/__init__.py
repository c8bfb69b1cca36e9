"""What happens to a run."""
