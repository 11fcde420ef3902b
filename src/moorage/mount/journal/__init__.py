"""What is written down of a mount? Its log, who opened what, what failed, and numbers."""
