"""Files: atomic writes, object storage, fingerprints, locks, safe unpickling, Hub downloads."""
