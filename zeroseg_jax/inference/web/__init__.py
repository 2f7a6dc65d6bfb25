"""The local web page: a few routes, hard limits, one static page, nothing on disk."""
