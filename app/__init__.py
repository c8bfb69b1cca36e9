"""team-runs: runs a team of LLM agents over HTTP, streams the run, and stops it when asked."""
