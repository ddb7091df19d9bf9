"""Building blocks for the HTML pages: rendering, thumbnails, colours, scripts."""
