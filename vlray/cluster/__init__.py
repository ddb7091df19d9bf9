"""Use of Ray by all commands: connection, capacity, console output, worker logs."""
