"""The layouts of official annotation files: each module reads one family of them."""
