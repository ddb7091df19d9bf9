"""Reading and storing settings: layers, flags, environment variables, settings.yaml."""
