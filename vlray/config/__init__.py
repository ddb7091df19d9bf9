"""Settings: pydantic models only; imports neither torch, ray nor numpy."""
