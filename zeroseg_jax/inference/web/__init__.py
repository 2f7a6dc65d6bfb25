"""Local web page: Starlette app, request limits, one static page; nothing is written to disk."""
