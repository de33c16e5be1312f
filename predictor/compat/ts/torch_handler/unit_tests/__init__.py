"""What handler authors use to test their handlers."""
