"""What tests share: a server in a process of its own, models made on the fly, a raw HTTP client."""
