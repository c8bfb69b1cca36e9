"""The image and the Compose file, without a container engine."""
