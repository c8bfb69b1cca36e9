"""The language models, against servers that behave and misbehave."""
