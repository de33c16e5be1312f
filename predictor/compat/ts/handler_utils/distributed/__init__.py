"""Models spread over several devices."""
