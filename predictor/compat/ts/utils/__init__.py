"""Helpers handlers share."""
