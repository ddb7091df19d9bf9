"""The detector inside the package, for a first run, tests and small studies."""
