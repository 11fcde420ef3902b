"""What does a mount show, as values and without a protocol? See `view`."""
