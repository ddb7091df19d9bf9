"""The machinery of settings: layers, flags, environment variables, lasting state."""
