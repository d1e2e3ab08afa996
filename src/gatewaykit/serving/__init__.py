"""The gateway as a server of its own: uvicorn and the socket, the heads it reads, several workers and their parent."""
