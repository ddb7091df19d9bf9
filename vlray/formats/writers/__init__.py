"""Writers for other tools' region files, one module per layout."""
