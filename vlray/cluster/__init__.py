"""Use of Ray in all commands: connection, capacity, console output and worker logs."""
