"""Settings of the commands: pydantic models only, without torch, ray or numpy."""
