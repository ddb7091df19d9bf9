"""Reading and storing of settings: layers, flags, environment variables, settings.yaml."""
