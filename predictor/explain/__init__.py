"""Attributions of predictions to inputs."""
