"""Building blocks of the HTML pages: rendering, thumbnails, colours, scripts."""
