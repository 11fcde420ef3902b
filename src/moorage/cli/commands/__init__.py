"""One module a group of commands; `moorage.cli.main` has the table."""
