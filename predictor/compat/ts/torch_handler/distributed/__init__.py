"""Handlers for models spread over several devices."""
