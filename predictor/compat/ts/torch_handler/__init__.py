"""The handlers an archive can name without containing them."""
