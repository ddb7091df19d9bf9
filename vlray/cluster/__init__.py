"""What extraction and training share of Ray: connection, capacity, worker logs."""
