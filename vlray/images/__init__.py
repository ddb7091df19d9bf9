"""Images: find them, name them, decode them, resize them, draw on them."""
