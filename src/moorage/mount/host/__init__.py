"""What of the machine does a mount deal with? Its table of mounts, users, folders, namespaces and service manager."""
