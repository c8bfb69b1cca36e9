"""The page in a real Chromium: what a person sees, does and hears."""
