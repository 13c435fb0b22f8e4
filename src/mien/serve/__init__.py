"""The page and the API: the same results as everywhere, over HTTP. Needs the extra `serve`."""
