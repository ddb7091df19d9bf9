"""Files and their safety: atomic writes, object storage, locks, pickles that run no code."""
