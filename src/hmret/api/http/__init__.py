"""What serves and reads HTTP: requests, streams, guards, the socket and the page."""
