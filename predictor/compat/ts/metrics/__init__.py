"""What handlers measure about themselves."""
