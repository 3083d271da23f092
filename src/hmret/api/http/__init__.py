"""The HTTP side: requests, streams, guards, the control socket and the web page."""
