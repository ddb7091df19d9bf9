"""Images: listing, ids, decoding, resizing, drawing."""
