"""What does the next server of a mount have to know? See `ledger`."""
