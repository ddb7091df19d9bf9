"""Ray Data: list, decode, detect, write; and finish what an earlier run left."""
