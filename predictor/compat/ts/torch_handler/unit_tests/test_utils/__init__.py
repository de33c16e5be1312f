"""Stand-ins for the server in a handler's own tests."""
