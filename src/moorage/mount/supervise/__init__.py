"""How does a mount survive the death of its server? See `supervisor`."""
