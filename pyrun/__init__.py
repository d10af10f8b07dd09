"""pyrun compiles a Kubernetes Pod manifest into a plan of kernel operations and runs it as a transaction."""

__version__ = "0.1.0"
