"""What changed between two snapshots, and how two lines of history come together again."""
